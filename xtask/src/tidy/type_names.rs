//! One meaning for each name of a type across the library crates.

use std::collections::BTreeMap;

use super::{known::Finding, modules::ModuleTree};

/// The definitions of every name that has more than one and is not a [shared idea](SHARED).
pub(crate) fn find(trees: &[ModuleTree<'_>]) -> Vec<Finding> {
    let mut definitions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, location) in trees.iter().flat_map(ModuleTree::types) {
        definitions.entry(name).or_default().push(location);
    }
    let is_shared = |name: &str| SHARED.iter().any(|(shared, _)| *shared == name);
    let mut findings = Vec::new();
    for (name, locations) in definitions {
        if locations.len() < 2 || is_shared(name) {
            continue;
        }
        findings.extend(locations.iter().map(|location| Finding {
            key: format!("type {name}"),
            location: location.clone(),
            message: format!("`{name}` has several definitions: {}", locations.join(", ")),
        }));
    }
    findings
}

/// Names that several crates or files define for the same idea, and the idea.
const SHARED: &[(&str, &str)] = &[
    ("ConfigError", "why a configuration was rejected"),
    (
        "Endpoint",
        "in rpcnet-balance what a balancer chooses among, as in Envoy; in rpcnet-transport a QUIC port, as in quinn",
    ),
    (
        "Lifecycle",
        "stage of a node or of an endpoint, from its start to its end",
    ),
    (
        "NodeId",
        "name and epoch of a node, in gossip and in the registry",
    ),
    ("Tags", "what a node says about itself, as pairs of texts"),
    (
        "Time",
        "a moment on a clock that the caller reads, in nanoseconds",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str]) -> Vec<String> {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let b = || file("a/src/b.rs", "struct B;");
        let crates = texts
            .iter()
            .map(|text| vec![file("a/src/lib.rs", text), b()]);
        let crates: Vec<_> = crates.collect();
        let trees = crates
            .iter()
            .map(|files| ModuleTree::read("a/src/lib.rs", files).unwrap());
        let findings = find(&trees.collect::<Vec<_>>());
        findings
            .into_iter()
            .map(|it| format!("{} {}", it.key, it.location))
            .collect()
    }

    #[test]
    fn a_name_of_two_crates_is_found_with_its_lines() {
        let found = found(&["struct Verdict;", "mod b { pub enum Verdict {} }"]);
        assert_eq!(
            found,
            ["type Verdict a/src/lib.rs:1", "type Verdict a/src/lib.rs:1"]
        );
    }

    #[test]
    fn a_name_twice_in_a_crate_is_found() {
        assert_eq!(
            found(&["trait Rule {}\nmod b {\n    type Rule = u8;\n}"]).len(),
            2
        );
    }

    #[test]
    fn shared_ideas_and_types_of_tests_pass() {
        assert_eq!(found(&["struct NodeId;", "struct NodeId;"]), [""; 0]);
        let test = "struct Peer; #[cfg(test)] mod tests { struct Peer; }";
        assert_eq!(found(&[test]), [""; 0]);
    }

    #[test]
    fn a_module_that_a_feature_makes_public_is_read_once() {
        let twice = "#[cfg(feature = \"b\")] pub mod b; #[cfg(not(feature = \"b\"))] mod b;";
        assert_eq!(found(&[twice]), [""; 0]);
    }
}
