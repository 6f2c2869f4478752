//! Circles of `use` between the files of a crate: files that cannot be read one after the other.

use std::collections::BTreeSet;

use super::{Problem, modules::ModuleTree};

/// Every circle that is not on the list, and every entry of the list that explains none.
pub(crate) fn check(trees: &[ModuleTree<'_>], known: &[(&str, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut explained = BTreeSet::new();
    for circle in trees.iter().flat_map(circles) {
        let entry = known.iter().find(|(file, _)| circle.contains(file));
        match entry {
            Some((file, _)) => drop(explained.insert(*file)),
            None => {
                let what = format!("is in a circle of `use`: {}", circle.join(", "));
                problems.push(Problem::new(circle[0], what));
            }
        }
    }
    let unused = known.iter().filter(|(file, _)| !explained.contains(file));
    problems.extend(unused.map(|(file, _)| {
        Problem::new(
            *file,
            "is listed for a circle of `use` and explains none: remove the entry",
        )
    }));
    problems
}

/// The sets of files of which each imports from each other, directly or through others.
fn circles<'a>(tree: &ModuleTree<'a>) -> Vec<Vec<&'a str>> {
    let imports = tree.imports();
    let reached: Vec<_> = (0..imports.len())
        .map(|file| reachable(&imports, file))
        .collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for file in 0..imports.len() {
        let mutual = |other: &usize| reached[*other].contains(&file);
        let circle: BTreeSet<usize> = reached[file].iter().copied().filter(mutual).collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            circles.push(circle.into_iter().map(|file| tree.files[file]).collect());
        }
    }
    circles
}

/// The files that one leads to, over one import at least.
fn reachable(imports: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(file) = pending.pop() {
        pending.extend(imports[file].iter().filter(|file| reached.insert(**file)));
    }
    reached
}

/// Circles that remain, each by one of its files, and why.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    (
        "rpcnet-transport/src/client/close_reason.rs",
        "QUIC errors become close reasons and the reverse",
    ),
    (
        "rpcnet-transport/src/server/admission/gate.rs",
        "a permit is given back to its gate",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], known: &[(&str, &str)]) -> Vec<String> {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        let files: Vec<_> = files.iter().map(owned).collect();
        let tree = ModuleTree::read("a/src/lib.rs", &files).unwrap();
        let problems = check(&[tree], known);
        problems.iter().map(Problem::to_string).collect()
    }

    const LIB: (&str, &str) = ("a/src/lib.rs", "mod b; mod c; pub use b::B;");

    #[test]
    fn imports_in_one_direction_pass() {
        let b = ("a/src/b.rs", "use crate::c::C; pub struct B(C);");
        let c = ("a/src/c.rs", "pub struct C;");
        assert_eq!(found(&[LIB, b, c], &[]), [""; 0]);
    }

    #[test]
    fn a_circle_is_a_problem_until_it_is_listed() {
        let b = ("a/src/b.rs", "use crate::c::C; pub struct B(C);");
        let c = (
            "a/src/c.rs",
            "use super::b::{self, B}; pub struct C(Option<B>);",
        );
        let problem = "a/src/b.rs: is in a circle of `use`: a/src/b.rs, a/src/c.rs";
        assert_eq!(found(&[LIB, b, c], &[]), [problem]);
        assert_eq!(found(&[LIB, b, c], &[("a/src/c.rs", "reason")]), [""; 0]);
    }

    #[test]
    fn an_entry_without_a_circle_is_a_problem() {
        let (b, c) = (("a/src/b.rs", "pub struct B;"), ("a/src/c.rs", ""));
        let problem = "a/src/b.rs: is listed for a circle of `use` and explains none: \
                       remove the entry";
        assert_eq!(found(&[LIB, b, c], &[("a/src/b.rs", "reason")]), [problem]);
    }

    #[test]
    fn re_exports_lead_to_the_file_that_defines_the_name() {
        // `c` imports from the root what `b` defines, and `b` imports from `c`.
        let b = ("a/src/b.rs", "use crate::c; pub struct B(c::C);");
        let c = ("a/src/c/mod.rs", "mod d; pub use d::*;");
        let d = (
            "a/src/c/d.rs",
            "use crate::B; pub struct C(Option<B>); pub struct D;",
        );
        let by_module = found(&[LIB, b, c, d], &[]);
        assert_eq!(
            by_module, [""; 0],
            "b imports the module c, not what d defines"
        );
        let b = ("a/src/b.rs", "use crate::c::C; pub struct B(C);");
        let problem = "a/src/b.rs: is in a circle of `use`: a/src/b.rs, a/src/c/d.rs";
        assert_eq!(found(&[LIB, b, c, d], &[]), [problem]);
    }

    #[test]
    fn imports_of_tests_do_not_count() {
        let b = (
            "a/src/b.rs",
            "pub struct B; #[cfg(test)] mod tests { use crate::c::C; }",
        );
        let c = ("a/src/c.rs", "use crate::b::B; pub struct C(B);");
        assert_eq!(found(&[LIB, b, c], &[]), [""; 0]);
    }
}
