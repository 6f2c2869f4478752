//! Circles of `use` between the files of a crate: files that cannot be read one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Problem,
    modules::{self, Modules},
    workspace::Workspace,
};

/// Circles that remain, each by one of its files, and why.
const KNOWN: &[(&str, &str)] = &[
    (
        "rpcnet-transport/src/client/close_reason.rs",
        "QUIC errors become close reasons and the reverse",
    ),
    (
        "rpcnet-transport/src/server/admission/gate.rs",
        "a permit is given back to its gate",
    ),
];

/// Every circle that is not on the list, and every entry of the list that explains none.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    check(&modules::of_crates(workspace), KNOWN)
}

fn check(crates: &[Modules<'_>], known: &[(&str, &str)]) -> Vec<Problem> {
    let circles: Vec<_> = crates.iter().flat_map(circles).collect();
    let explains = |(file, _): &(&str, &str), circle: &BTreeSet<&str>| circle.contains(file);
    let unknown = circles
        .iter()
        .filter(|circle| !known.iter().any(|it| explains(it, circle)));
    let unknown = unknown.map(|circle| {
        let files: Vec<_> = circle.iter().copied().collect();
        Problem::new(
            files[0],
            format!("is in a circle of `use`: {}", files.join(", ")),
        )
    });
    let unused = known
        .iter()
        .filter(|it| !circles.iter().any(|circle| explains(it, circle)));
    let unused = unused.map(|(file, _)| {
        let what = "is listed for a circle of `use` and explains none: remove the entry";
        Problem::new(*file, what)
    });
    unknown.chain(unused).collect()
}

/// The sets of files of which each imports from each other, directly or through others.
fn circles<'a>(modules: &Modules<'a>) -> BTreeSet<BTreeSet<&'a str>> {
    let imports = modules.imports();
    let reached = imports
        .keys()
        .map(|file| (*file, reachable(&imports, file)));
    let reached: BTreeMap<_, _> = reached.collect();
    let circle_of = |(file, others): (&&'a str, &BTreeSet<&'a str>)| {
        let is_mutual = |other: &&&str| reached.get(*other).is_some_and(|it| it.contains(file));
        others
            .iter()
            .filter(is_mutual)
            .copied()
            .collect::<BTreeSet<_>>()
    };
    reached
        .iter()
        .map(circle_of)
        .filter(|circle| circle.len() > 1)
        .collect()
}

/// The files that one leads to, over one import at least.
fn reachable<'a>(imports: &BTreeMap<&str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(file) = pending.pop() {
        let next = imports.get(file).into_iter().flatten();
        pending.extend(next.filter(|file| reached.insert(**file)));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    fn found(files: &[(&str, &str)], known: &[(&str, &str)]) -> Vec<String> {
        let workspace = tests::workspace(&[tests::package("a")], files);
        let problems = check(&modules::of_crates(&workspace), known);
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
