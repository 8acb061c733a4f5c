//! What event n is: a pure function of the seed and n, field by field.
//!
//! Names and numbers are those of Beam's `PersonGenerator`, `AuctionGenerator` and `BidGenerator`.
//! Each field has draws of its own, so that a field costs nothing when it is not wanted.

use std::sync::{Arc, LazyLock};

use crate::connector::generator::draw::{Draw, below, push_letters, unit};
use crate::connector::nexmark::{NexmarkOptions, NexmarkType};

/// Events in a cycle: one person, three auctions, 46 bids.
pub(super) const CYCLE: u64 = 50;
const AUCTIONS_PER_CYCLE: u64 = 3;

const FIRST_PERSON: u64 = 1_000;
const FIRST_AUCTION: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// Auctions that bids still go to, and persons who still act: the newest ones.
const AUCTIONS_IN_FLIGHT: u64 = 100;
const PERSONS_ACTIVE: u64 = 1_000;
/// How far ids may run ahead of the auctions and persons that exist.
const AUCTION_LEAD: u64 = 10;
const PERSON_LEAD: u64 = 10;
/// One in so many auctions, sellers and bidders is a hot one.
const HOT_EVERY: u64 = 100;

const CHANNELS: u64 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Letters of a bid's `extra`: what makes a bid in JSON about 200 bytes.
const BID_EXTRA: std::ops::Range<u64> = 4..21;
/// Bytes of an auction and a person that their `extra` fills up to, with a fifth's variation.
const AUCTION_BYTES: u64 = 500;
const PERSON_BYTES: u64 = 200;

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// The events of one run.
#[derive(Clone, Debug)]
pub(super) struct Events {
    options: NexmarkOptions,
    start_millis: i64,
    draws: Draws,
    channels: Arc<Channels>,
}

/// The bits of each field.
#[derive(Clone, Copy, Debug)]
struct Draws {
    disorder: Draw,
    bid_auction: Draw,
    bidder: Draw,
    price: Draw,
    channel: Draw,
    extra: Draw,
    item: Draw,
    description: Draw,
    reserve: Draw,
    expires: Draw,
    seller: Draw,
    category: Draw,
    name: Draw,
    email: Draw,
    card: Draw,
    city: Draw,
    state: Draw,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let draw = |purpose| Draw::new(seed, purpose);
        Draws {
            disorder: draw(1),
            bid_auction: draw(2),
            bidder: draw(3),
            price: draw(4),
            channel: draw(5),
            extra: draw(6),
            item: draw(7),
            description: draw(8),
            reserve: draw(9),
            expires: draw(10),
            seller: draw(11),
            category: draw(12),
            name: draw(13),
            email: draw(14),
            card: draw(15),
            city: draw(16),
            state: draw(17),
        }
    }
}

impl Events {
    pub fn new(options: NexmarkOptions) -> Self {
        assert!(options.event_rate > 0, "event time moves");
        Events {
            options,
            start_millis: options.start_micros.div_euclid(1_000),
            draws: Draws::new(options.seed),
            channels: Arc::new(Channels::new(Draw::new(options.seed, 18))),
        }
    }

    /// Equal for equal events.
    pub fn fingerprint(&self, kind: NexmarkType) -> u32 {
        let NexmarkOptions {
            seed,
            start_micros,
            event_rate,
            disorder_ms,
        } = self.options;
        let mut hasher = crc32fast::Hasher::new();
        for part in [seed, event_rate, disorder_ms, kind.places().start] {
            hasher.update(&part.to_le_bytes());
        }
        hasher.update(&start_micros.to_le_bytes());
        hasher.finalize()
    }

    /// Event time in milliseconds since 1970.
    #[inline]
    pub fn time_millis(&self, number: u64) -> i64 {
        let millis = self.time_in_order(number);
        if self.options.disorder_ms == 0 {
            return millis;
        }
        let early = below(
            self.draws.disorder.bits(number),
            self.options.disorder_ms + 1,
        );
        millis.saturating_sub_unsigned(early)
    }

    #[inline]
    fn time_in_order(&self, number: u64) -> i64 {
        let rate = self.options.event_rate;
        // In two parts, so that no product overflows: rates are far below 2^54.
        let millis = (number / rate).saturating_mul(1_000) + number % rate * 1_000 / rate;
        self.start_millis.saturating_add_unsigned(millis)
    }

    // Bids.

    #[inline]
    pub fn bid_auction(&self, number: u64) -> i64 {
        let bits = self.draws.bid_auction.bits(number);
        let last = last_auction(number);
        let auction = if bits & 1 == 1 {
            last / HOT_EVERY * HOT_EVERY
        } else {
            let oldest = last.saturating_sub(AUCTIONS_IN_FLIGHT);
            oldest + below(bits, last - oldest + 1 + AUCTION_LEAD)
        };
        id(FIRST_AUCTION + auction)
    }

    #[inline]
    pub fn bidder(&self, number: u64) -> i64 {
        let bits = self.draws.bidder.bits(number);
        let bidder = if bits & 3 != 0 {
            last_person(number) / HOT_EVERY * HOT_EVERY + 1
        } else {
            some_person(number, bits)
        };
        id(FIRST_PERSON + bidder)
    }

    #[inline]
    pub fn price(&self, number: u64) -> i64 {
        price(self.draws.price.bits(number))
    }

    #[inline]
    pub fn channel(&self, number: u64) -> &[u8] {
        self.channels.name(self.channel_place(number))
    }

    #[inline]
    pub fn url(&self, number: u64) -> &[u8] {
        self.channels.url(self.channel_place(number))
    }

    #[inline]
    fn channel_place(&self, number: u64) -> usize {
        let bits = self.draws.channel.bits(number);
        let place = if bits & 1 == 1 {
            bits >> 1 & 3
        } else {
            4 + below(bits, CHANNELS)
        };
        usize::try_from(place).expect("a few thousand")
    }

    pub fn push_bid_extra(&self, number: u64, out: &mut Vec<u8>) {
        let draw = self.draws.extra.within(number);
        let letters = BID_EXTRA.start + below(draw.bits(u64::MAX), BID_EXTRA.end - BID_EXTRA.start);
        push_letters(draw, count(letters), out);
    }

    // Auctions.

    pub fn auction_id(&self, number: u64) -> i64 {
        id(FIRST_AUCTION + last_auction(number))
    }

    pub fn push_item(&self, number: u64, out: &mut Vec<u8>) {
        push_words(self.draws.item.within(number), 20, b' ', out);
    }

    pub fn push_description(&self, number: u64, out: &mut Vec<u8>) {
        push_words(self.draws.description.within(number), 100, b' ', out);
    }

    pub fn initial_bid(&self, number: u64) -> i64 {
        self.price(number)
    }

    pub fn reserve(&self, number: u64) -> i64 {
        self.initial_bid(number) + price(self.draws.reserve.bits(number))
    }

    /// An auction lasts, on average, as long as it takes to fill the auctions in flight anew.
    pub fn expires_millis(&self, number: u64) -> i64 {
        let horizon = AUCTIONS_IN_FLIGHT * CYCLE / AUCTIONS_PER_CYCLE;
        let now = self.time_in_order(number);
        let length = (self.time_in_order(number + horizon) - now).unsigned_abs() * 2;
        let lasts = 1 + below(self.draws.expires.bits(number), length.max(1));
        self.time_millis(number).saturating_add_unsigned(lasts)
    }

    pub fn seller(&self, number: u64) -> i64 {
        let bits = self.draws.seller.bits(number);
        let seller = if bits & 3 != 0 {
            last_person(number) / HOT_EVERY * HOT_EVERY
        } else {
            some_person(number, bits)
        };
        id(FIRST_PERSON + seller)
    }

    pub fn category(&self, number: u64) -> i64 {
        id(FIRST_CATEGORY + below(self.draws.category.bits(number), CATEGORIES))
    }

    pub fn push_auction_extra(&self, number: u64, out: &mut Vec<u8>) {
        let item = words_length(self.draws.item.within(number), 20);
        let description = words_length(self.draws.description.within(number), 100);
        self.push_extra(number, 8 * 7 + item + description, AUCTION_BYTES, out);
    }

    // Persons.

    pub fn person_id(&self, number: u64) -> i64 {
        id(FIRST_PERSON + last_person(number))
    }

    pub fn push_name(&self, number: u64, out: &mut Vec<u8>) {
        let bits = self.draws.name.bits(number);
        out.extend_from_slice(pick(&FIRST_NAMES, bits).as_bytes());
        out.push(b' ');
        out.extend_from_slice(pick(&LAST_NAMES, bits << 32).as_bytes());
    }

    pub fn push_email(&self, number: u64, out: &mut Vec<u8>) {
        let draw = self.draws.email.within(number);
        push_words(draw.within(0), 7, b'_', out);
        out.push(b'@');
        push_words(draw.within(1), 5, b'_', out);
        out.extend_from_slice(b".com");
    }

    pub fn push_card(&self, number: u64, out: &mut Vec<u8>) {
        let draw = self.draws.card.within(number);
        for group in 0..4 {
            if group > 0 {
                out.push(b' ');
            }
            push_padded(below(draw.bits(group), 10_000), 4, out);
        }
    }

    pub fn city(&self, number: u64) -> &'static str {
        pick(&CITIES, self.draws.city.bits(number))
    }

    pub fn state(&self, number: u64) -> &'static str {
        pick(&STATES, self.draws.state.bits(number))
    }

    pub fn push_person_extra(&self, number: u64, out: &mut Vec<u8>) {
        // A name, an address, a card and a city are about so long together.
        const OTHERS: u64 = 8 + 13 + 15 + 19 + 8 + 2;
        self.push_extra(number, OTHERS, PERSON_BYTES, out);
    }

    /// Letters that fill an event of `taken` bytes up to about `bytes`.
    fn push_extra(&self, number: u64, taken: u64, bytes: u64, out: &mut Vec<u8>) {
        let draw = self.draws.extra.within(number);
        let missing = bytes.saturating_sub(taken);
        let variation = missing / 5;
        let letters = missing - variation + below(draw.bits(u64::MAX), 2 * variation + 1);
        push_letters(draw, count(letters), out);
    }
}

/// The newest person at event `number`, counted from 0.
#[inline]
fn last_person(number: u64) -> u64 {
    number / CYCLE
}

/// The newest auction at event `number`, counted from 0; before the first one, 0 as well.
#[inline]
fn last_auction(number: u64) -> u64 {
    let cycle = number / CYCLE * AUCTIONS_PER_CYCLE;
    // Place 0 is the person, before the cycle's auctions; 1 to 3 are the auctions.
    (cycle + (number % CYCLE).min(AUCTIONS_PER_CYCLE)).saturating_sub(1)
}

/// One of the newest persons, or one who is about to come.
#[inline]
fn some_person(number: u64, bits: u64) -> u64 {
    let persons = last_person(number) + 1;
    let active = persons.min(PERSONS_ACTIVE);
    persons - active + below(bits, active + PERSON_LEAD)
}

#[inline]
fn id(value: u64) -> i64 {
    // Event numbers are bounded far below 2^63.
    value.cast_signed()
}

fn count(value: u64) -> usize {
    usize::try_from(value).expect("a text's length")
}

fn pick<const N: usize>(from: &[&'static str; N], bits: u64) -> &'static str {
    from[count(below(bits, count_of(N)))]
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).expect("an array's length")
}

/// Steps of [`PRICES`].
const PRICE_STEPS: usize = 1_024;

/// 100 · 10^(6 i / 1024): cents from 1.00 to 1,000,000.00. Made by multiplications alone, which are
/// the same on every machine; a power function is not.
static PRICES: LazyLock<[f64; PRICE_STEPS + 1]> = LazyLock::new(|| {
    /// 10^(6/1024).
    const STEP: f64 = 1.013_583_133_334_065_7;
    let mut prices = [100.0; PRICE_STEPS + 1];
    for step in 1..prices.len() {
        prices[step] = prices[step - 1] * STEP;
    }
    prices
});

/// Cents whose logarithm is even between 1.00 and 1,000,000.00.
#[inline]
fn price(bits: u64) -> i64 {
    let table = &*PRICES;
    let step = (bits >> 54) as usize;
    let between = unit(bits << 10);
    let cents = table[step] + (table[step + 1] - table[step]) * between;
    // Positive and below 2^27: truncation after adding a half rounds.
    (cents + 0.5) as i64
}

/// Between three and `max - 1` letters with some `gap` characters inside.
fn push_words(draw: Draw, max: u64, gap: u8, out: &mut Vec<u8>) {
    let start = out.len();
    push_letters(draw, count(words_length(draw, max)), out);
    let end = out.len();
    // Two of the letters, never the first or the last one: one in thirteen is a gap.
    for byte in &mut out[start + 1..end - 1] {
        if matches!(*byte, b'q' | b'x') {
            *byte = gap;
        }
    }
}

fn words_length(draw: Draw, max: u64) -> u64 {
    3 + below(draw.bits(u64::MAX), max - 3)
}

fn push_padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for byte in out[start..].iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// The channels and the pages that bids come from, made once: four hot ones, then the others.
#[derive(Debug)]
struct Channels {
    text: Vec<u8>,
    /// For each channel where its name ends and where its url ends; names begin where the url
    /// before them ends.
    ends: Vec<(usize, usize)>,
}

impl Channels {
    fn new(draw: Draw) -> Self {
        let mut channels = Channels {
            text: Vec::new(),
            ends: Vec::new(),
        };
        for place in 0..count_of(HOT_CHANNELS.len()) {
            channels
                .text
                .extend_from_slice(HOT_CHANNELS[count(place)].as_bytes());
            channels.push_page(draw.within(place), None);
        }
        for number in 0..u32::try_from(CHANNELS).expect("ten thousand") {
            let name = number
                .reverse_bits()
                .cast_signed()
                .unsigned_abs()
                .to_string();
            channels.text.extend_from_slice(b"channel-");
            channels.text.extend_from_slice(name.as_bytes());
            let draw = draw.within(4 + u64::from(number));
            let is_tagged = below(draw.bits(u64::MAX), 10) > 0;
            channels.push_page(draw, is_tagged.then_some(name.as_str()));
        }
        channels
    }

    /// Ends the channel's name and adds its url.
    fn push_page(&mut self, draw: Draw, tag: Option<&str>) {
        let name_end = self.text.len();
        self.text.extend_from_slice(b"https://www.nexmark.com/");
        for part in 0..3 {
            push_words(draw.within(part), 5, b'_', &mut self.text);
            self.text.push(b'/');
        }
        self.text.extend_from_slice(b"item.htm?query=1");
        if let Some(tag) = tag {
            self.text.extend_from_slice(b"&channel_id=");
            self.text.extend_from_slice(tag.as_bytes());
        }
        self.ends.push((name_end, self.text.len()));
    }

    #[inline]
    fn name(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.text[start..self.ends[place].0]
    }

    #[inline]
    fn url(&self, place: usize) -> &[u8] {
        let (start, end) = self.ends[place];
        &self.text[start..end]
    }
}
