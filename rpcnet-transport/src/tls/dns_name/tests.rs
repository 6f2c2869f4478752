//! Tests of DNS names: valid and invalid ones.

use super::*;

#[test]
fn case_and_a_final_dot_are_ignored() {
    for name in ["Node-1.Workers", "node-1.workers.", "NODE-1.WORKERS."] {
        assert_eq!(canonical_name(name).unwrap(), "node-1.workers");
    }
    let pod = "worker-0.workers.a-namespace-of-some-length.svc.cluster.example.internal";
    assert!(pod.len() > LABEL_BYTES_MAX);
    assert_eq!(canonical_name(pod).unwrap(), pod);
    let longest = format!("{}a", "abc.".repeat(63));
    assert_eq!(canonical_name(&longest).unwrap().len(), NAME_BYTES_MAX);
}

#[test]
fn invalid_names_are_rejected_with_their_reason() {
    let (label, long) = ("a".repeat(64), "abc.".repeat(64));
    for (name, cause) in [
        ("", NameError::Empty),
        (".", NameError::Empty),
        ("127.0.0.1", NameError::Address),
        ("::1", NameError::Address),
        ("[::1]", NameError::Address),
        ("127.0.0.1:80", NameError::Address),
        ("[::1]:80", NameError::Address),
        ("*.workers", NameError::Wildcard),
        ("a b", NameError::Character(' ')),
        ("ä", NameError::Character('ä')),
        ("node-1:80", NameError::Character(':')),
        ("a..", NameError::Label),
        ("a..b", NameError::Label),
        ("-a", NameError::Label),
        ("a-.b", NameError::Label),
        ("a.7", NameError::Number),
        (&label, NameError::LabelTooLong(64)),
        (&long, NameError::TooLong(255)),
    ] {
        assert_eq!(canonical_name(name), Err(cause), "{name:?}");
    }
}
