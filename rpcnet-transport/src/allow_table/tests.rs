//! Tests of the allow table: its rules one by one, and all of them against a naive model.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{CertificateOptions, DevCa};

fn peer(name: &str) -> Peer {
    Peer::new(name, ([127, 0, 0, 1], 7946).into())
}

/// Peer with these URIs in its certificate.
fn peer_with_uris(uris: &[&str]) -> Peer {
    let options = uris.iter().fold(CertificateOptions::new(), |options, uri| {
        options.with_uri(*uri)
    });
    let tls = DevCa::new("test").issue_with("node-1", &options);
    peer("node-1").with_identity(tls.expect("valid names").identity().clone())
}

const CRITICAL: Access = Access::Allowed {
    priority_max: Priority::Critical,
};

fn up_to(priority_max: Priority) -> Access {
    Access::Allowed { priority_max }
}

#[test]
fn what_no_rule_allows_is_denied() {
    let caller = peer("gateway-1");
    assert_eq!(AllowTable::new().decide("status", &caller), Access::Denied);
    let table = AllowTable::new().allow("Render/*", Callers::any());
    for (method, access) in [
        ("Render/frame", CRITICAL),
        ("Render/", CRITICAL),
        ("Render", Access::Denied),
        ("render/frame", Access::Denied),
        ("Other/Render/frame", Access::Denied),
        ("", Access::Denied),
    ] {
        assert_eq!(table.decide(method, &caller), access, "{method:?}");
    }
}

#[test]
fn the_most_specific_pattern_decides_alone_in_any_order() {
    let rules = [
        ("*", "any"),
        ("Render/*", "render"),
        ("Render/internal/*", "internal"),
        ("*/status", "status"),
        ("Render/stop", "stop"),
    ];
    let table = |rules: &mut dyn Iterator<Item = &(&str, &str)>| {
        rules.fold(AllowTable::new(), |table, (methods, name)| {
            table.allow(methods, Callers::names([name]))
        })
    };
    for table in [table(&mut rules.iter()), table(&mut rules.iter().rev())] {
        for (method, decisive) in [
            ("other", "any"),
            ("Render/frame", "render"),
            ("Render/internal/frame", "internal"),
            ("Render/internal/status", "internal"),
            ("Admin/status", "status"),
            // Both have eight characters and seven: the longer one decides.
            ("Render/status", "render"),
            ("Render/stop", "stop"),
        ] {
            for (_, name) in rules {
                let access = table.decide(method, &peer(name));
                assert_eq!(access.is_allowed(), name == decisive, "{method} by {name}");
            }
        }
    }
}

#[test]
fn of_equally_long_patterns_the_one_that_begins_a_name_decides() {
    let prefix = |table: AllowTable| table.allow("ab*", Callers::names(["prefix"]));
    let suffix = |table: AllowTable| table.allow("*bc", Callers::names(["suffix"]));
    for table in [
        prefix(suffix(AllowTable::new())),
        suffix(prefix(AllowTable::new())),
    ] {
        assert_eq!(table.decide("abc", &peer("prefix")), CRITICAL);
        assert_eq!(table.decide("abc", &peer("suffix")), Access::Denied);
        assert_eq!(table.decide("bc", &peer("suffix")), CRITICAL);
    }
}

#[test]
fn rules_of_one_pattern_are_united_and_the_highest_priority_counts() {
    for methods in ["Render/*", "*/frame", "Render/frame"] {
        let callers = |name: &str| Callers::names([name]);
        let table = AllowTable::new()
            .allow(
                methods,
                callers("a*").with_priority_max(Priority::Sheddable),
            )
            .allow(
                methods,
                callers("*b").with_priority_max(Priority::CriticalPlus),
            )
            .allow(
                methods,
                callers("a*").with_priority_max(Priority::SheddablePlus),
            );
        for (name, access) in [
            ("a", up_to(Priority::SheddablePlus)),
            ("b", up_to(Priority::CriticalPlus)),
            ("ab", up_to(Priority::CriticalPlus)),
            ("c", Access::Denied),
        ] {
            let decided = table.decide("Render/frame", &peer(name));
            assert_eq!(decided, access, "{methods} by {name}");
        }
    }
}

#[test]
fn a_call_gets_the_claimed_priority_or_the_highest_that_it_may_have() {
    for claimed in Priority::ALL {
        assert_eq!(Access::Denied.priority(claimed), None);
        for priority_max in Priority::ALL {
            // All are listed from the highest to the lowest.
            let place = |priority| Priority::ALL.iter().position(|it| *it == priority);
            let granted = up_to(priority_max).priority(claimed).expect("allowed");
            assert_eq!(place(granted), place(claimed).max(place(priority_max)));
        }
    }
}

#[test]
fn node_names_match_whatever_their_case() {
    for (pattern, name, matches) in [
        ("gateway-1", "gateway-1", true),
        ("Gateway-1.", "gateway-1", true),
        ("gateway-1", "GATEWAY-1", true),
        ("gateway-1", "gateway-10", false),
        ("gateway-*", "gateway-", true),
        ("Gateway-*", "gateway-eu.example", true),
        ("gateway-*", "my-gateway-1", false),
        ("*.Gateways", "eu.gateways", true),
        ("*.gateways.", "eu.gateways", true),
        ("*.gateways", "gateways", false),
        ("*", "anything", true),
        // Not a node name, and cut within a character.
        ("*-1", "ä", false),
        ("a*", "ä", false),
    ] {
        let callers = Callers::names([pattern]);
        assert_eq!(callers.contains(&peer(name)), matches, "{pattern} {name}");
    }
    assert!(Callers::names(["a", "b"]).contains(&peer("b")));
    assert!(!Callers::names([""; 0]).contains(&peer("b")));
    assert!(!Callers::none().contains(&peer("b")));
}

#[test]
fn any_of_the_uris_may_match_and_case_counts() {
    let uris = ["spiffe://example.org/ops/alice", "urn:Team:render"];
    let caller = peer_with_uris(&uris);
    for (pattern, matches) in [
        (uris[0], true),
        (uris[1], true),
        ("spiffe://example.org/ops/*", true),
        ("spiffe://example.org/*", true),
        ("spiffe:*", true),
        ("*/alice", true),
        ("*", true),
        ("spiffe://example.org/ops", false),
        ("spiffe://Example.org/ops/alice", false),
        ("urn:team:render", false),
        ("spiffe://example.com/*", false),
    ] {
        let callers = Callers::uris([pattern]);
        assert_eq!(callers.contains(&caller), matches, "{pattern}");
        assert!(!callers.contains(&peer("node-1")), "it has no identity");
        assert!(!callers.contains(&peer_with_uris(&[])), "it has no URI");
    }
    assert!(Callers::uris(["urn:none", uris[1]]).contains(&caller));
}

#[test]
fn fingerprints_name_one_certificate() {
    let (caller, other) = (peer_with_uris(&["urn:a"]), peer_with_uris(&["urn:a"]));
    let fingerprint = |peer: &Peer| peer.identity().expect("it has one").fingerprint();
    let callers = Callers::fingerprints([[0; 32], fingerprint(&caller)]);
    assert!(callers.contains(&caller));
    assert!(!callers.contains(&other) && !callers.contains(&peer("node-1")));
}

#[test]
fn a_predicate_decides_each_time() {
    let allowed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = allowed.clone();
    let is_allowed =
        move |peer: &Peer| peer.name() == "a" && asked.load(std::sync::atomic::Ordering::SeqCst);
    let table = AllowTable::new()
        .allow("Render/*", Callers::matching(is_allowed))
        .allow("Render/*", Callers::names(["b"]))
        .allow("*", Callers::names(["a"]));
    assert!(table.has_predicate("Render/frame"));
    assert!(!table.has_predicate("status"));
    assert_eq!(table.decide("Render/frame", &peer("a")), Access::Denied);
    allowed.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(table.decide("Render/frame", &peer("a")), CRITICAL);
    assert_eq!(table.decide("Render/frame", &peer("b")), CRITICAL);
    assert_eq!(table.decide("Render/frame", &peer("c")), Access::Denied);
}

#[test]
fn malformed_patterns_are_rejected_with_the_reason() {
    let long = "m".repeat(256);
    let methods = |pattern: &str| AllowTable::new().try_allow(pattern, Callers::any()).err();
    let names = |pattern: &str| Callers::try_names([pattern]).err();
    let uris = |pattern: &str| Callers::try_uris([pattern]).err();
    for (error, pattern, reason) in [
        (methods(""), "", "it is empty"),
        (names(""), "", "it is empty"),
        (uris(""), "", "it is empty"),
        (methods("a*b"), "a*b", "its first or its last character"),
        (names("**"), "**", "one '*' is allowed"),
        (uris("*a*"), "*a*", "one '*' is allowed"),
        (methods(&long), &long, "256 bytes"),
        (names("a b*"), "a b*", "' ' cannot be in a node name"),
        (names("127.0.0.1"), "127.0.0.1", "an IP address"),
        (uris("urn:ä"), "urn:ä", "'ä' cannot be in a URI"),
        (
            uris("spiffe://example.org*"),
            "spiffe://example.org*",
            "begins with \"example.org\": write '/'",
        ),
    ] {
        let error = error.unwrap_or_else(|| panic!("{pattern:?} is accepted"));
        assert_eq!(error.pattern(), pattern);
        let text = error.to_string();
        assert!(
            text.contains(reason) && text.contains(&format!("{pattern:?}")),
            "{text}"
        );
    }
    assert!(methods(&long[1..]).is_none());
}

#[test]
#[should_panic(expected = "malformed pattern \"Render*frame\"")]
fn a_malformed_pattern_of_a_program_panics() {
    let _table = AllowTable::new().allow("Render*frame", Callers::any());
}

/// Rule of the model: a pattern of methods, one of names, and a priority.
type ModelRule = (String, String, Priority);

/// Whether a pattern matches a text, by all ways to put something in place of the `*`.
fn naive_match(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => (0..=text.len())
            .flat_map(|from| (from..=text.len()).map(move |to| &text[from..to]))
            .any(|filled| format!("{start}{filled}{end}") == text),
    }
}

/// Decision by looking at every rule for every pattern.
fn naive_decision(rules: &[ModelRule], method: &str, name: &str) -> Access {
    let is_more_specific = |one: &str, other: &str| {
        let (exact, other_exact) = (!one.contains('*'), !other.contains('*'));
        let (len, other_len) = (one.len(), other.len());
        match (exact, other_exact) {
            (true, false) => true,
            (false, true) => false,
            _ => len > other_len || (len == other_len && one.ends_with('*') && other != one),
        }
    };
    let of_method = |(methods, ..): &&ModelRule| naive_match(methods, method);
    let decides = |(methods, ..): &&ModelRule| {
        let others = rules.iter().filter(of_method);
        !others
            .into_iter()
            .any(|(other, ..)| is_more_specific(other, methods))
    };
    let allowing = rules
        .iter()
        .filter(of_method)
        .filter(decides)
        .filter(|(_, names, _)| naive_match(names, name));
    let highest = allowing.map(|(.., priority)| *priority).min();
    highest.map_or(Access::Denied, up_to)
}

fn pattern() -> impl Strategy<Value = String> {
    (vec(select(vec!["a", "b"]), 0..4), 0..3).prop_map(|(letters, wildcard)| {
        let letters = letters.concat();
        match wildcard {
            1 => format!("{letters}*"),
            2 => format!("*{letters}"),
            _ if letters.is_empty() => "*".to_owned(),
            _ => letters,
        }
    })
}

fn text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b"]), 1..5).prop_map(|letters| letters.concat())
}

proptest! {
    #[test]
    fn decisions_are_those_of_the_model(
        rules in vec((pattern(), pattern(), select(Priority::ALL.to_vec())), 0..8),
        calls in vec((text(), text()), 1..16),
    ) {
        let mut table = AllowTable::new();
        for (methods, names, priority) in &rules {
            let callers = Callers::names([names]).with_priority_max(*priority);
            table = table.allow(methods, callers);
        }
        for (method, name) in calls {
            let decided = table.decide(&method, &peer(&name));
            prop_assert_eq!(decided, naive_decision(&rules, &method, &name));
        }
    }
}
