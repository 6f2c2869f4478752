//! Weights: the tag `weight` of a node.

use std::sync::Arc;

use rpcnet_balance::Endpoint;

use crate::{NodeInfo, Tags};

/// Invalid tag that selection uses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InvalidTag {
    /// The node that has the tag.
    pub node: Arc<NodeInfo>,
    /// The key of the tag.
    pub key: Arc<str>,
    /// The value of the tag.
    pub value: Arc<str>,
    /// The value that selection uses instead.
    pub effective: f32,
}

/// The key of the tag.
pub(super) const WEIGHT_TAG: &str = "weight";

/// The weight that the tags give, and whether the tag was used as it is.
///
/// White space around the number does not matter. Without the tag it is 1. A number is clamped to 0
/// to [`Endpoint::WEIGHT_MAX`], and one above zero to at least [`Endpoint::WEIGHT_MIN`]: a greater
/// number never gives less. A text that is no number gives 1.
pub(super) fn parse_weight(tags: &Tags) -> (f32, bool) {
    let Some(text) = tags.value(WEIGHT_TAG) else {
        return (1.0, true);
    };
    // As `f64`, so that only zero becomes zero.
    match text.trim().parse::<f64>() {
        Ok(said) if said <= 0.0 => (0.0, said == 0.0),
        Ok(said) if said > 0.0 => {
            let taken = (said as f32).clamp(Endpoint::WEIGHT_MIN, Endpoint::WEIGHT_MAX);
            (taken, taken == said as f32)
        }
        // "nan" is a number to the parser.
        _ => (1.0, false),
    }
}

/// The tag of a node, if its value is replaced.
pub(super) fn invalid_tag(node: &Arc<NodeInfo>) -> Option<InvalidTag> {
    let (taken, is_plain) = parse_weight(&node.tags);
    let value = node.tags.value(WEIGHT_TAG).filter(|_| !is_plain)?;
    Some(InvalidTag {
        node: Arc::clone(node),
        key: WEIGHT_TAG.into(),
        value: value.into(),
        effective: taken,
    })
}

/// Whether the tag has changed from `before` to `after`.
pub(super) fn has_changed(before: Option<&NodeInfo>, after: &NodeInfo) -> bool {
    before.is_none_or(|before| before.tags.value(WEIGHT_TAG) != after.tags.value(WEIGHT_TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(text: &str) -> (f32, bool) {
        parse_weight(&Tags::from([(WEIGHT_TAG, text)]))
    }

    #[test]
    fn each_text_has_one_meaning() {
        assert_eq!(parse_weight(&Tags::new()), (1.0, true));
        for (text, taken, is_plain) in [
            ("1", 1.0, true),
            ("2.5", 2.5, true),
            (" 2", 2.0, true),
            ("\t3e2\n", 300.0, true),
            ("0", 0.0, true),
            ("-0.0", 0.0, true),
            ("0.001", 0.001, true),
            ("1000", 1000.0, true),
            ("1e-9", 0.001, false),
            ("1e-60", 0.001, false),
            ("1001", 1000.0, false),
            ("1e39", 1000.0, false),
            ("inf", 1000.0, false),
            ("-1", 0.0, false),
            ("-inf", 0.0, false),
            ("nan", 1.0, false),
            ("", 1.0, false),
            (" ", 1.0, false),
            ("2x", 1.0, false),
            ("heavy", 1.0, false),
            ("1,5", 1.0, false),
        ] {
            assert_eq!(weight(text), (taken, is_plain), "{text:?}");
        }
    }

    #[test]
    fn a_greater_number_never_gives_less() {
        let texts = [
            "-inf", "-1e300", "-1", "-1e-300", "-0", "0", "1e-300", "1e-45", "0.0009", "0.001",
            "0.5", "1", "2", "999.9999", "1000", "1000.1", "1e38", "1e39", "1e300", "1e999", "inf",
        ];
        let weights = texts.map(|text| weight(text).0);
        assert!(weights.is_sorted(), "{weights:?}");
    }
}
