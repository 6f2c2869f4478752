//! Versions that a README quotes: of our crates (`rpcnet-phi = "0.2"`) and of Rust.

use super::manifests::Metadata;

/// The quotes in `readme` that the manifests do not bear out, each with its line number.
pub(crate) fn check(readme: &str, metadata: &Metadata) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(readme.lines()) {
        if let Some((name, quoted)) = quoted_crate(line) {
            match metadata.package(name) {
                None => wrong.push((number, format!("quotes {name}, which is unknown"))),
                Some(package) if !is_version_prefix(&package.version, quoted) => {
                    let what = format!("quotes {name} {quoted}, which is {}", package.version);
                    wrong.push((number, what));
                }
                Some(_) => {}
            }
        }
        for quoted in quoted_rust(line) {
            let minimum = metadata
                .published()
                .filter_map(|package| package.rust_version.as_deref())
                .find(|version| !is_version_prefix(version, quoted));
            if let Some(minimum) = minimum {
                wrong.push((
                    number,
                    format!("quotes Rust {quoted}, the minimum is {minimum}"),
                ));
            }
        }
    }
    wrong
}

/// The quotes in `readme` of one of our crates from a registry, which no version is on yet.
pub(crate) fn unpublished(readme: &str) -> Vec<(usize, String)> {
    let from_registry = |line: &&str| !line.contains("path =") && !line.contains("git =");
    let quote = |(number, line): (usize, &str)| {
        let (name, version) = Some(line).filter(from_registry).and_then(quoted_crate)?;
        let what = format!("quotes {name} {version} as if published, and it is unreleased");
        Some((number, what))
    };
    (1..).zip(readme.lines()).filter_map(quote).collect()
}

/// `rpcnet-phi = "0.2"` and `rpcnet-phi = { version = "0.2", .. }`.
fn quoted_crate(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once('=')?;
    let value = value.trim();
    let value = if value.starts_with('{') {
        value.split_once("version")?.1
    } else {
        value
    };
    let version = value
        .trim_start_matches([' ', '='])
        .strip_prefix('"')?
        .split('"')
        .next()?;
    let is_name = |it: &str| {
        it.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let name = name.trim();
    (is_name(name) && name.starts_with("rpcnet")).then_some((name, version))
}

/// The versions after `Rust`, `MSRV` or `rust-version`, as in `MSRV: 1.88` and `Rust 1.88.0`.
fn quoted_rust(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in ["MSRV", "Rust", "rust-version"] {
        for (at, _) in line.match_indices(word) {
            let rest = &line[at + word.len()..];
            let rest = rest.trim_start_matches([' ', ':', '=', '"', '`', '*', '(']);
            let rest = rest.strip_prefix("is ").unwrap_or(rest);
            let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.');
            let version = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            if version.starts_with("1.") && !found.contains(&version) {
                found.push(version);
            }
        }
    }
    found
}

/// Whether `quoted` is `version`, or its first parts.
fn is_version_prefix(version: &str, quoted: &str) -> bool {
    version
        .strip_prefix(quoted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(readme: &str) -> Vec<(usize, String)> {
        let json = r#"{"packages": [{
            "name": "rpcnet-phi", "version": "0.2.0", "manifest_path": "", "rust_version": "1.88"
        }]}"#;
        check(readme, &Metadata::parse(json).unwrap())
    }

    #[test]
    fn a_stale_quote_is_caught() {
        for (readme, problem) in [
            (
                "rpcnet-phi = \"0.1\"",
                "quotes rpcnet-phi 0.1, which is 0.2.0",
            ),
            (
                "rpcnet-phi = \"0.20\"",
                "quotes rpcnet-phi 0.20, which is 0.2.0",
            ),
            (
                "rpcnet-phi = { version = \"0.3\", default-features = false }",
                "quotes rpcnet-phi 0.3, which is 0.2.0",
            ),
            (
                "rpcnet-psi = \"0.2\"",
                "quotes rpcnet-psi, which is unknown",
            ),
            ("The MSRV is 1.85.", "quotes Rust 1.85, the minimum is 1.88"),
            (
                "needs **Rust 1.8** or newer",
                "quotes Rust 1.8, the minimum is 1.88",
            ),
            (
                "rust-version = \"1.90\"",
                "quotes Rust 1.90, the minimum is 1.88",
            ),
        ] {
            let text = format!("# phi\n{readme}\n");
            assert_eq!(found(&text), [(2, problem.to_owned())]);
        }
    }

    #[test]
    fn a_quote_of_what_is_not_published_is_caught() {
        let what = "quotes rpcnet-phi 0.2 as if published, and it is unreleased";
        for readme in [
            "rpcnet-phi = \"0.2\"",
            "rpcnet-phi = { version = \"0.2\", default-features = false }",
        ] {
            let expected = [(2, what.to_owned())];
            assert_eq!(unpublished(&format!("\n{readme}\n")), expected);
        }
        for readme in [
            "rpcnet-phi = { path = \"../phi\", version = \"0.2\" }",
            "rpcnet-phi = { git = \"https://example.org/rpcnet\" }",
            "serde = \"1\"",
        ] {
            assert_eq!(unpublished(readme), [], "{readme}");
        }
    }

    #[test]
    fn right_quotes_and_other_lines_pass() {
        for readme in [
            "rpcnet-phi = \"0.2.0\"",
            "rpcnet-phi = { version = \"0.2\", features = [\"x\"] }",
            "rpcnet-phi = { path = \"../rpcnet-phi\" }",
            "serde = \"1\"",
            "Rust 1.88 and later",
            "Rust is fine, Rust 2024 too",
        ] {
            assert_eq!(found(readme), [], "{readme}");
        }
    }
}
