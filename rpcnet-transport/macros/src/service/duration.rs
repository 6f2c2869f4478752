//! Durations in attributes: `"500ms"`.

use std::time::Duration;

use syn::LitStr;

/// Units and their nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The duration that a literal says.
pub(super) fn parse(literal: &LitStr) -> syn::Result<Duration> {
    let text = literal.value();
    let duration = duration_of(&text).filter(|it| !it.is_zero());
    duration.ok_or_else(|| {
        let message = format!(
            "{text:?} is no duration: write an integer above 0 and a unit of ns, us, ms, s, m or \
             h, such as \"500ms\""
        );
        syn::Error::new_spanned(literal, message)
    })
}

fn duration_of(text: &str) -> Option<Duration> {
    let digits = text.find(|it: char| !it.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let count: u64 = count.parse().ok()?;
    count.checked_mul(*nanoseconds).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_an_integer_and_a_unit() {
        for (text, expected) in [
            ("7ns", Some(Duration::from_nanos(7))),
            ("7us", Some(Duration::from_micros(7))),
            ("500ms", Some(Duration::from_millis(500))),
            ("2s", Some(Duration::from_secs(2))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3_600))),
            ("", None),
            ("2", None),
            ("s", None),
            ("2 s", None),
            ("1.5s", None),
            ("-1s", None),
            ("2sec", None),
            ("6000000h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration_of(text), expected, "{text}");
        }
    }

    #[test]
    fn no_time_is_no_duration() {
        let error = parse(&syn::parse_quote!("0s")).unwrap_err();
        assert!(error.to_string().starts_with("\"0s\" is no duration"));
    }
}
