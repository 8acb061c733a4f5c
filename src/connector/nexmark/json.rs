//! Nexmark events as JSON objects, for filling topics.

use crate::connector::nexmark::event::Events;

/// `{"auction":…,"bidder":…,"price":…,"channel":…,"url":…,"ts":…,"extra":…}`.
pub(super) fn write_bid(events: &Events, number: u64, out: &mut Vec<u8>) {
    push_number(b"{\"auction\":", events.bid_auction(number), out);
    push_number(b",\"bidder\":", events.bidder(number), out);
    push_number(b",\"price\":", events.price(number), out);
    push_text(b",\"channel\":\"", events.channel(number), out);
    push_text(b",\"url\":\"", events.url(number), out);
    push_time(b",\"ts\":\"", events.time_millis(number), out);
    out.extend_from_slice(b",\"extra\":\"");
    events.push_bid_extra(number, out);
    out.extend_from_slice(b"\"}");
}

/// All fields of an auction, in the order of the tables in [`crate::connector::nexmark`].
pub(super) fn write_auction(events: &Events, number: u64, out: &mut Vec<u8>) {
    push_number(b"{\"id\":", events.auction_id(number), out);
    out.extend_from_slice(b",\"itemName\":\"");
    events.push_item(number, out);
    out.extend_from_slice(b"\",\"description\":\"");
    events.push_description(number, out);
    push_number(b"\",\"initialBid\":", events.initial_bid(number), out);
    push_number(b",\"reserve\":", events.reserve(number), out);
    push_time(b",\"ts\":\"", events.time_millis(number), out);
    push_time(b",\"expires\":\"", events.expires_millis(number), out);
    push_number(b",\"seller\":", events.seller(number), out);
    push_number(b",\"category\":", events.category(number), out);
    out.extend_from_slice(b",\"extra\":\"");
    events.push_auction_extra(number, out);
    out.extend_from_slice(b"\"}");
}

/// All fields of a person.
pub(super) fn write_person(events: &Events, number: u64, out: &mut Vec<u8>) {
    push_number(b"{\"id\":", events.person_id(number), out);
    out.extend_from_slice(b",\"name\":\"");
    events.push_name(number, out);
    out.extend_from_slice(b"\",\"emailAddress\":\"");
    events.push_email(number, out);
    out.extend_from_slice(b"\",\"creditCard\":\"");
    events.push_card(number, out);
    out.push(b'"');
    push_text(b",\"city\":\"", events.city(number).as_bytes(), out);
    push_text(b",\"state\":\"", events.state(number).as_bytes(), out);
    push_time(b",\"ts\":\"", events.time_millis(number), out);
    out.extend_from_slice(b",\"extra\":\"");
    events.push_person_extra(number, out);
    out.extend_from_slice(b"\"}");
}

/// The texts of events have nothing that JSON escapes.
fn push_text(before: &[u8], text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    out.extend_from_slice(text);
    out.push(b'"');
}

fn push_number(before: &[u8], number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    if number < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut left = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = digit(left % 10);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// `YYYY-MM-DDThh:mm:ss.fffZ`; the year has four digits for all times that a run reaches.
fn push_time(before: &[u8], millis: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    let (days, millis) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = date_of(days);
    let clock = millis.unsigned_abs();
    let mut text = *b"0000-00-00T00:00:00.000Z\"";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], clock / 3_600_000);
    put(&mut text[14..16], clock / 60_000 % 60);
    put(&mut text[17..19], clock / 1_000 % 60);
    put(&mut text[20..23], clock % 1_000);
    out.extend_from_slice(&text);
}

fn put(digits: &mut [u8], mut value: u64) {
    for place in digits.iter_mut().rev() {
        *place = digit(value % 10);
        value /= 10;
    }
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}

/// Year, month and day of a number of days since 1970, by counting 400-year eras whose years begin
/// in March (Howard Hinnant's algorithm).
fn date_of(days: i64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097).unsigned_abs();
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era
        .saturating_mul(400)
        .saturating_add_unsigned(year_of_era + next);
    (year.unsigned_abs(), month, day)
}
