//! Patterns against Postgres' answers.

use arrow::datatypes::IntervalMonthDayNano;

use crate::function::to_char::moment::{Fields, MomentPattern};
use crate::function::to_char::number::NumberPattern;
use crate::types::Zone;
use crate::types::event_time;

fn moment(text: &str, pattern: &str, zone: Option<Zone>) -> String {
    let micros = event_time::parse(text).unwrap();
    let mut written = String::new();
    let pattern = MomentPattern::of_moments(pattern).unwrap();
    pattern.write(&Fields::of_moment(micros, zone), &mut written);
    written
}

fn number(value: i128, scale: i8, pattern: &str) -> String {
    let mut written = String::new();
    NumberPattern::parse(pattern)
        .unwrap()
        .write_numeric(value, scale, &mut written);
    written
}

#[test]
fn times() {
    for (pattern, expected) in [
        (
            "YYYY-MM-DD HH24:MI:SS.MS US FF3 FF6",
            "2026-01-02 15:04:05.678 678901 678 678901",
        ),
        (
            "Dy, DD Mon YYYY HH12:MI AM p.m.",
            "Fri, 02 Jan 2026 03:04 PM p.m.",
        ),
        ("FMDay FMMonth DDth FMDD", "Friday January 02nd 2"),
        ("Day|MONTH|mon|dy", "Friday   |JANUARY  |jan|fri"),
        (
            "IYYY-IW ID DDD IDDD J Q WW W CC",
            "2026-01 5 002 005 2461043 1 01 1 21",
        ),
        (
            "Y,YYY YYY YY Y RM rm SSSS",
            "2,026 026 26 6 I    i    54245",
        ),
        (
            "TZ OF TZH:TZM \"quoted YYYY\" BC A.D. \\\"",
            " +00 +00:00 quoted YYYY AD A.D. \"",
        ),
        ("YYYYth HHTH", "2026th 03RD"),
        ("foo bar yyyy-mm-dd hh:mi pm", "foo bar 2026-01-02 03:04 pm"),
    ] {
        let written = moment("2026-01-02 15:04:05.678901", pattern, None);
        assert_eq!(written, expected, "{pattern}");
    }
    assert_eq!(
        moment("2026-01-02 00:04:05", "HH HH12 HH24", None),
        "12 12 00"
    );
    let zone = Zone::parse("+05:30").unwrap();
    let written = moment("2026-01-01 20:00:00", "DD HH24 OF TZH:TZM", Some(zone));
    assert_eq!(written, "02 01 +05:30 +05:30");
    let written = moment("2026-01-01 20:00:00", "TZ tz OF", Some(Zone::UTC));
    assert_eq!(written, "UTC utc +00");
}

#[test]
fn intervals() {
    let pattern = "YYYY MM DD HH24 HH12 MI SS MS";
    let pattern = MomentPattern::of_intervals(pattern).unwrap();
    let micros = ((26 * 60 + 5) * 60 + 6) * 1_000_000 + 700_000;
    let interval = IntervalMonthDayNano::new(14, 3, micros * 1_000);
    let mut written = String::new();
    pattern.write(&Fields::of_interval(interval), &mut written);
    assert_eq!(written, "0001 02 03 26 02 05 06 700");
    let refused = MomentPattern::of_intervals("Month")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused.state().code(), "22007");
}

#[test]
fn numbers() {
    for (value, scale, pattern, expected) in [
        (485, 0, "999", " 485"),
        (-485, 0, "999", "-485"),
        (14855, 1, "9,999.99", " 1,485.50"),
        (1, 1, "0.99", " 0.10"),
        (1, 1, "9.99", "  .10"),
        (1, 1, "FM9.99", ".1"),
        (12345, 0, "999", " ###"),
        (-123, 1, "999.9PR", " <12.3>"),
        (123, 1, "S999.9", " +12.3"),
        (-123, 1, "999.9MI", " 12.3-"),
        (123, 1, "SG999.9", "+ 12.3"),
        (0, 0, "999", "   0"),
        (123, 1, "099.90", " 012.30"),
        (12345, 3, "FM999.00", "12.35"),
        (1234567891, 3, "FM9,999,999.99", "1,234,567.89"),
        (125, 0, "L999", "  125"),
        (-5, 1, "9.9", " -.5"),
        (5, 1, "FM90.99", "0.5"),
        (485, 0, "\"Good: \"999", "Good:  485"),
        (-5, 0, "FM999PR", "<5>"),
        (12, 0, "PL99", "+ 12"),
        (-12, 0, "99S", "12-"),
        (12345678, 4, "9999.99", " 1234.57"),
        (-1234, 0, "0000000", "-0001234"),
        (123456, 3, "999D", " 123"),
        (15, 1, "FM9", "2"),
        (25, 1, "FM9", "3"),
        (0, 0, "FM999", "0"),
        (0, 1, "9.9", "  .0"),
        (0, 1, "FM9.9", "0."),
        (1234567890, 0, "9,999,999,999", " 1,234,567,890"),
        (1234, 0, "9,999,999", "     1,234"),
        (12, 0, "0,000", " 0,012"),
        (-12, 0, "9,999", "   -12"),
        (12, 0, "S9,999", "   +12"),
        (-12, 0, "9,999S", "   12-"),
        (12, 0, "MI999", "  12"),
        (-12, 0, "MI999", "- 12"),
        (12, 0, "999MI", " 12 "),
        (12, 0, "$999", "$  12"),
        (1234, 2, "99 99", "    12"),
        (12, 0, "999PR", "  12 "),
        (-123, 0, "99", "-##"),
        (1234, 1, "99.9", " ##.#"),
    ] {
        assert_eq!(
            number(value, scale, pattern),
            expected,
            "{value}e-{scale} {pattern}"
        );
    }
    let mut written = String::new();
    NumberPattern::parse("FM9")
        .unwrap()
        .write_float(2.5, &mut written);
    assert_eq!(written, "2");
}

#[test]
fn what_is_not_supported_is_named() {
    for pattern in ["9.9EEEE", "RN", "999th", "99V9"] {
        let error = NumberPattern::parse(pattern).map(|_| ()).unwrap_err();
        assert_eq!(error.state().code(), "0A000", "{pattern}");
    }
    for pattern in ["FXYYYY", "DDSP"] {
        let error = MomentPattern::of_moments(pattern).map(|_| ()).unwrap_err();
        assert_eq!(error.state().code(), "0A000", "{pattern}");
    }
    assert!(NumberPattern::parse("S9MI").is_err());
    assert!(NumberPattern::parse("9.9.9").is_err());
}
