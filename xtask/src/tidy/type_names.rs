//! One meaning for each name of a type across the library crates.

use std::collections::BTreeMap;

use super::{Problem, modules, workspace::Workspace};

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
        "Message",
        "what is sent: in rpcnet-swim in a datagram, in rpcnet-transport in a call",
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

/// The definitions of every name that has more than one and is not a [shared idea](SHARED).
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, location) in modules::of_crates(workspace)
        .into_iter()
        .flat_map(|it| it.types)
    {
        definitions.entry(name).or_default().push(location);
    }
    let mut problems = Vec::new();
    for (name, locations) in definitions {
        let is_shared = SHARED.iter().any(|(shared, _)| *shared == name);
        if locations.len() > 1 && !is_shared {
            let message = format!("`{name}` has several definitions: {}", locations.join(", "));
            let problem = |at| Problem::new(at, message.clone()).with_key(format!("type {name}"));
            problems.extend(locations.iter().map(problem));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    fn found(texts: &[&str]) -> Vec<String> {
        let roots = ["a/src/lib.rs", "c/src/lib.rs"].into_iter();
        let roots = roots.zip(texts.iter().copied());
        let texts: Vec<_> = roots.chain([("a/src/b.rs", "struct B;")]).collect();
        let packages = [tests::package("a"), tests::package("c")];
        let problems = find(&tests::workspace(&packages, &texts));
        let lines = problems.into_iter();
        lines
            .map(|it| format!("{} {}", it.key.unwrap(), it.location))
            .collect()
    }

    #[test]
    fn a_name_of_two_crates_is_found_with_its_lines() {
        let found = found(&["struct Verdict;", "mod b { pub enum Verdict {} }"]);
        assert_eq!(
            found,
            ["type Verdict a/src/lib.rs:1", "type Verdict c/src/lib.rs:1"]
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
