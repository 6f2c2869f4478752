//! Tests of metadata and trace contexts.

use proptest::prelude::*;

use super::*;

fn decoded(bytes: &[u8]) -> Result<Metadata, MetadataError> {
    Metadata::decode(Bytes::copy_from_slice(bytes))
}

#[test]
fn keys_are_checked_by_both_sides() {
    let long = "k".repeat(METADATA_KEY_BYTES_MAX);
    for key in ["a", "trace-id", "x.y_z-0", &long] {
        let metadata = Metadata::new().with(key, "value").unwrap();
        assert_eq!(metadata.text(key), Some("value"), "{key}");
        assert_eq!(decoded(metadata.as_bytes()), Ok(metadata), "{key}");
    }
    let longer = "k".repeat(METADATA_KEY_BYTES_MAX + 1);
    for key in ["", "Tenant", "a b", "a:b", "é", "a\0", &longer] {
        let error = Metadata::new().with(key, "value").unwrap_err();
        assert!(matches!(error, MetadataError::InvalidKey { .. }), "{key}");
        let mut encoded = vec![key.len() as u8, 0, 0];
        encoded.extend_from_slice(key.as_bytes());
        let error = decoded(&encoded).unwrap_err();
        assert!(matches!(error, MetadataError::InvalidKey { .. }), "{key}");
    }
}

#[test]
fn a_key_has_one_value() {
    let metadata = Metadata::new().with("a", "1").unwrap().with("b", "2");
    let metadata = metadata.unwrap().with("a", "3").unwrap();
    let entries: Vec<_> = metadata.iter().collect();
    assert_eq!(entries, [("b", &b"2"[..]), ("a", &b"3"[..])]);
    let twice = [&b"\x01\x00\x00a"[..], &b"\x01\x00\x00a"[..]].concat();
    let key = "a".to_owned();
    assert_eq!(decoded(&twice), Err(MetadataError::RepeatedKey { key }));
}

#[test]
fn the_limit_counts_keys_values_and_their_lengths() {
    let fits = METADATA_BYTES_MAX - 4;
    let metadata = Metadata::new().with("k", vec![7; fits]).unwrap();
    assert_eq!(metadata.encoded_len(), METADATA_BYTES_MAX);
    assert_eq!(decoded(metadata.as_bytes()), Ok(metadata.clone()));
    let bytes = METADATA_BYTES_MAX + 4;
    let too_large = MetadataError::TooLarge { bytes };
    assert_eq!(metadata.with("l", ""), Err(too_large.clone()));
    assert_eq!(decoded(&vec![0; bytes]), Err(too_large));
}

#[test]
fn the_debug_form_shows_no_value() {
    let metadata = Metadata::new().with("token", "secret").unwrap();
    assert_eq!(format!("{metadata:?}"), r#"["token"]"#);
}

#[test]
fn keys_are_selected_removed_and_merged() {
    let set = |pairs: &[(&str, &str)]| {
        let new = Metadata::new();
        let with = |metadata: Metadata, (key, value): &(&str, &str)| metadata.with(key, value);
        pairs.iter().try_fold(new, with).unwrap()
    };
    let all = set(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(all.only(["c", "a", "z"]), set(&[("a", "1"), ("c", "3")]));
    assert_eq!(all.without("b"), set(&[("a", "1"), ("c", "3")]));
    let merged = all.merged(&set(&[("b", "20"), ("d", "4")]));
    let expected = set(&[("a", "1"), ("c", "3"), ("b", "20"), ("d", "4")]);
    assert_eq!(merged, expected);
}

#[test]
fn a_traceparent_is_what_the_standard_says() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace: TraceContext = valid.parse().unwrap();
    assert_eq!(trace.to_string(), valid);
    assert_eq!(TraceContext::decode(trace.encode()), Ok(trace));
    assert_eq!(trace.trace_id()[..2], [0x4b, 0xf9]);
    assert_eq!(trace.parent_id()[6..], [0x02, 0xb7]);
    let later = format!("cc{}-what-comes-later", &valid[2..]);
    assert_eq!(later.parse(), Ok(trace));
    use TraceContextError::{InvalidVersion, Malformed, ZeroParentId, ZeroTraceId};
    for (text, error) in [
        ("", Malformed),
        (&valid[..54], Malformed),
        (&format!("{valid}-more"), Malformed),
        (&format!("cc{}more", &valid[2..]), Malformed),
        (&format!("ff{}", &valid[2..]), InvalidVersion),
        (&valid.replace("4b", "4B"), Malformed),
        (&valid.replace("4b", "+b"), Malformed),
        (
            &valid.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            ZeroTraceId,
        ),
        (
            &valid.replace("00f067aa0ba902b7", &"0".repeat(16)),
            ZeroParentId,
        ),
        (&format!("{}é", &valid[..54]), Malformed),
    ] {
        assert_eq!(text.parse::<TraceContext>(), Err(error), "{text}");
    }
    assert_eq!(TraceContext::decode([0; 25]), Err(ZeroTraceId));
}

proptest! {
    /// Whatever bytes a peer sends: an error, or metadata that is encoded as these bytes.
    #[test]
    fn any_bytes_are_metadata_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(metadata) = decoded(&bytes) {
            prop_assert_eq!(metadata.as_bytes(), &bytes[..]);
            let built = metadata.iter().try_fold(Metadata::new(), |built, (key, value)| {
                built.with(key, value)
            });
            prop_assert_eq!(built, Ok(metadata.clone()));
        }
    }

    #[test]
    fn entries_survive_the_wire(entries in prop::collection::btree_map("[a-z0-9._-]{1,64}", prop::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let metadata = entries.iter().try_fold(Metadata::new(), |m, (k, v)| m.with(k, v)).unwrap();
        let decoded = decoded(metadata.as_bytes()).unwrap();
        let read: Vec<_> = decoded.iter().map(|(k, v)| (k.to_owned(), v.to_vec())).collect();
        prop_assert_eq!(read, entries.into_iter().collect::<Vec<_>>());
    }
}
