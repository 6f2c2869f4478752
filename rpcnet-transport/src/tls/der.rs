//! DER reader (X.690) for what the TLS library does not expose of certificates and keys.

use std::time::{Duration, SystemTime};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Context-specific, constructed, number 0.
pub(super) const TAGGED_0: u8 = 0xa0;

/// Context-specific, constructed, number 3.
pub(super) const TAGGED_3: u8 = 0xa3;

/// Bits of a tag that are its number.
const TAG_NUMBER: u8 = 0x1f;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// First element of DER: its tag, its contents, and the rest. `None` if its length is not in the
/// shortest form, or 64 KiB or more, or its tag has several bytes.
pub(super) fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest, len_min) = match first {
        0..=0x7f => (usize::from(first), rest, 0),
        0x81 => (usize::from(*rest.first()?), &rest[1..], 0x80),
        0x82 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest, 0x100)
        }
        _ => return None,
    };
    // A tag of several bytes would have all of these bits set.
    if len < len_min || tag & TAG_NUMBER == TAG_NUMBER {
        return None;
    }
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

/// Contents of the first element if it has this tag, and the rest.
pub(super) fn expect(input: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, contents, rest) = element(input)?;
    (tag == expected).then_some((contents, rest))
}

/// Whether a file holds DER, or BER of indefinite length, and not text.
pub(super) fn is_der(file: &[u8]) -> bool {
    match file {
        // No text has such a second byte: it would not be UTF-8.
        [SEQUENCE, 0x80..=0x84, ..] => true,
        // The digit 0 is 0x30 too, so the length has to be that of the file.
        [SEQUENCE, len, contents @ ..] => usize::from(*len) == contents.len(),
        _ => false,
    }
}

/// Seconds since the Unix epoch of a time in a certificate.
pub(super) fn time(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        UTC_TIME if text >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| text[at..at + 2].parse::<u64>().ok();
    let (year, month, day) = (text[..4].parse::<u64>().ok()?, part(4)?, part(6)?);
    let (hour, minute, second) = (part(8)?, part(10)?, part(12)?);
    let days = days_to(year, month, day)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from the Unix epoch to this date.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Years start in March, so that the leap day is the last day.
    let year = year.checked_sub(u64::from(month <= 2))?;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    days.checked_sub(719_468)
}

/// Time this many seconds after the Unix epoch.
pub(super) fn system_time(since_epoch_s: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch_s)
}

/// Time in readable form: `2026-11-29 15:30:00 UTC`.
pub(crate) fn utc(time: SystemTime) -> String {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let (days, second) = (since_epoch / 86_400, since_epoch % 86_400);
    // Years start in March, so that the leap day is the last day.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        let long = [&[5, 0x81, 0x80][..], &[0; 0x80]].concat();
        assert_eq!(element(&long), Some((5, &long[3..], &[][..])));
        assert_eq!(element(&[5, 1, 2, 3]), Some((5, &[2][..], &[3][..])));
        for other in [
            &[][..],
            &[5],
            &[5, 1],
            &[5, 0x80, 2, 0, 0],
            &[5, 0x81, 1, 2],
            &[5, 0x82, 0, 1, 2],
            &[5, 0x83, 0, 0, 1, 2],
            &[0x1f, 1, 2],
            &[0xbf, 1, 2],
        ] {
            assert_eq!(element(other), None, "{other:?}");
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(utc(time), text);
        }
    }

    #[test]
    fn times_of_certificates_have_two_forms() {
        let read = |tag, text: &str| time(tag, text.as_bytes());
        let expected = Some(2_524_607_999);
        assert_eq!(read(UTC_TIME, "491231235959Z"), expected);
        assert_eq!(read(GENERALIZED_TIME, "20491231235959Z"), expected);
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        for damaged in [
            "",
            "Z",
            "4912312359Z",
            "49123123595äZ",
            "491231235959",
            "491331235959Z",
            "490031235959Z",
            "491200235959Z",
            // In 1950, before the epoch.
            "500101000000Z",
        ] {
            assert_eq!(read(UTC_TIME, damaged), None, "{damaged}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let mut second = 0;
        while second < 253_402_300_799 {
            let text = utc(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let read = time(GENERALIZED_TIME, format!("{digits}Z").as_bytes());
            assert_eq!(read, Some(second), "{text}");
            // Not a multiple of an hour or a day.
            second += 2_345_678;
        }
    }

    #[test]
    fn der_is_told_from_text_that_begins_with_a_zero() {
        assert!(is_der(&[0x30, 2, 5, 0]));
        assert!(is_der(&[0x30, 0x82, 1, 0, 2]));
        assert!(is_der(&[0x30, 0x80, 2, 1, 3]));
        for text in ["", "0", "0\n", "01 is a number\n", "0ä"] {
            assert!(!is_der(text.as_bytes()), "{text:?}");
        }
    }
}
