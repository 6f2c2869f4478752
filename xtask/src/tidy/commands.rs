//! Commands in texts: each exists, with its options and what it is to run; and the README
//! lists all of `cargo xtask`.

use std::collections::BTreeSet;

use clap::{Arg, Command};

use super::{Problem, manifests::Metadata, source_files::comment};

/// Every command that a text names and that could not be run.
pub(crate) fn check(path: &str, text: &str, root: &Command, metadata: &Metadata) -> Vec<Problem> {
    let markdown = match path.rsplit_once('.') {
        Some((_, "md")) => text.to_owned(),
        Some((_, "rs")) => comments(text),
        _ => return Vec::new(),
    };
    let mut problems = Vec::new();
    let mut note = |line: usize, command: &str, wrong: String| {
        let what = format!("names `{command}`: {wrong}");
        problems.push(Problem::new(format!("{path}:{line}"), what));
    };
    let folder = path.split('/').next().unwrap_or_default();
    for (line, command) in commands(&markdown) {
        if let Err(wrong) = check_command(&command, folder, root, metadata) {
            note(line, &command, wrong);
        }
    }
    for (line, command, flags) in rows(&markdown) {
        let words: Vec<_> = command.split_whitespace().skip(2).collect();
        if let Ok(at) = resolve_command(root, &words) {
            for flag in flags.iter().filter(|flag| option(at, flag).is_none()) {
                note(line, &command, format!("there is no {flag}"));
            }
        }
    }
    for (line, name) in scenarios(&markdown) {
        if !xtask_sim::names().contains(&name) {
            note(
                line,
                &format!("cargo xtask sim {name}"),
                "there is no such scenario".into(),
            );
        }
    }
    problems
}

/// The commands of `cargo xtask` and the crates that the tables of the README leave out.
pub(crate) fn unlisted_commands(readme: &str, root: &Command, metadata: &Metadata) -> Vec<Problem> {
    let listed: BTreeSet<_> = rows(readme)
        .into_iter()
        .map(|(_, command, _)| command)
        .collect();
    let is_listed = |command: &String| {
        let begins = |row: &String| row == command || row.starts_with(&format!("{command} "));
        listed.iter().any(begins)
    };
    let missing = leaf_commands(root, "cargo xtask")
        .into_iter()
        .filter(|it| !is_listed(it));
    let missing = missing.map(|it| format!("lists `{it}` in no table"));
    let crates = metadata.published().map(|package| package.name.as_str());
    let crates = crates.filter(|name| !readme.contains(&format!("\n| [`{name}`]({name}) |")));
    let crates = crates.map(|name| format!("lists {name} in no table"));
    missing
        .chain(crates)
        .map(|what| Problem::new("README.md", what))
        .collect()
}

/// The commands that people see, without those that only group others.
fn leaf_commands(command: &Command, name: &str) -> Vec<String> {
    let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
    let visible: Vec<_> = visible.filter(|it| it.get_name() != "help").collect();
    match visible.is_empty() {
        true => vec![name.to_owned()],
        false => visible
            .iter()
            .flat_map(|it| leaf_commands(it, &format!("{name} {}", it.get_name())))
            .collect(),
    }
}

fn check_command(
    command: &str,
    folder: &str,
    root: &Command,
    metadata: &Metadata,
) -> Result<(), String> {
    let words = split_words(command);
    let words: Vec<_> = words.iter().skip(1).map(String::as_str).collect();
    match &words[..] {
        ["xtask", words @ ..] => resolve_command(root, words).map(|_| ()),
        ["run" | "test" | "bench" | "build", words @ ..] => cargo(words, folder, metadata),
        _ => Ok(()),
    }
}

/// Follows the words from subcommand to subcommand; the last one.
fn resolve_command<'a>(root: &'a Command, words: &[&str]) -> Result<&'a Command, String> {
    let mut at = root;
    let mut words = words.iter().copied().peekable();
    let mut positionals = root.get_positionals();
    while let Some(word) = words.next() {
        if word.starts_with("--") {
            let (name, has_value) = match word.split_once('=') {
                Some((name, _)) => (name, true),
                None => (word, false),
            };
            let found = option(at, name).ok_or_else(|| format!("there is no {name}"))?;
            let takes_value = found.get_action().takes_values();
            if takes_value && !has_value {
                let value = words
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))?;
                check_value(found, value)?;
            }
        } else if at.has_subcommands() && !is_placeholder(word) {
            let next = at.find_subcommand(word).filter(|it| !it.is_hide_set());
            at = next.ok_or_else(|| format!("there is no {word}"))?;
            positionals = at.get_positionals();
        } else if let Some(positional) = positionals.next() {
            check_value(positional, word)?;
        } else if !is_placeholder(word) {
            return Err(format!("it takes no {word}"));
        }
    }
    Ok(at)
}

fn option<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let name = flag.strip_prefix("--")?;
    command
        .get_arguments()
        .find(|it| it.get_long() == Some(name))
}

fn check_value(of: &Arg, value: &str) -> Result<(), String> {
    let possible = of.get_possible_values();
    let known = possible.is_empty() || possible.iter().any(|it| it.matches(value, false));
    match known || is_placeholder(value) {
        true => Ok(()),
        false => Err(format!("there is no {value}")),
    }
}

/// `FILE`, `[PATH]`, `[SCENARIO]...`, `...`: what a reader puts something else for.
fn is_placeholder(word: &str) -> bool {
    !word
        .chars()
        .any(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
}

/// The packages, targets and features that cargo is to find.
fn cargo(words: &[&str], folder: &str, metadata: &Metadata) -> Result<(), String> {
    let mut words = words.iter().take_while(|word| **word != "--");
    let (mut name, mut features, mut targets) = (None, Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_default();
        match *word {
            "-p" | "--package" => name = Some(value()),
            "--features" => features.push(value()),
            "--example" | "--test" | "--bench" | "--bin" => {
                targets.push((word.trim_start_matches('-'), value()));
            }
            _ => {}
        }
    }
    let package = match name {
        Some(name) if is_placeholder(name) => return Ok(()),
        Some(name) => {
            let package = metadata.package(name);
            Some(package.ok_or_else(|| format!("there is no package {name}"))?)
        }
        None => metadata.package(folder),
    };
    let Some(package) = package else {
        return Ok(());
    };
    for (kind, target) in targets {
        let known = |it: &super::manifests::Target| {
            it.name == target && it.kind.iter().any(|it| it == kind)
        };
        if !is_placeholder(target) && !package.targets.iter().any(known) {
            return Err(format!("{} has no {kind} {target}", package.name));
        }
    }
    match features
        .iter()
        .find(|it| !package.features.contains_key(**it))
    {
        Some(feature) => Err(format!("{} has no feature {feature}", package.name)),
        None => Ok(()),
    }
}

/// The commands in backticks and in code blocks, each with its line.
fn commands(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    // Of a paragraph: its first line, and its text.
    let mut paragraph = (1, String::new());
    for (number, line) in (1..).zip(markdown.lines()).chain([(0, "")]) {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        if in_block || is_fence || line.trim().is_empty() || line.starts_with('|') {
            found.extend(spans(&paragraph.1, paragraph.0));
            paragraph = (number + 1, String::new());
        }
        if line.starts_with('|') {
            found.extend(spans(line, number));
        } else if in_block {
            found.extend(command(line).map(|command| (number, command)));
        } else if !is_fence {
            if paragraph.1.is_empty() {
                paragraph.0 = number;
            }
            paragraph.1.push_str(line);
            paragraph.1.push('\n');
        }
    }
    found
}

/// The commands between backticks of a paragraph that begins at a line.
fn spans(paragraph: &str, first: usize) -> Vec<(usize, String)> {
    let mut line = first;
    let mut found = Vec::new();
    for (at, part) in paragraph.split('`').enumerate() {
        if at % 2 == 1 {
            found.extend(command(part).map(|command| (line, command)));
        }
        line += part.matches('\n').count();
    }
    found
}

/// The words, of which one may have spaces between double quotes.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// `cargo ...`, without a prompt, variables before it, and what follows it. `SIM` is `cargo xtask
/// sim`.
fn command(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches("$ ");
    let text = match text.strip_prefix("SIM ") {
        Some(scenario) => &format!("cargo xtask sim {scenario}"),
        None => text,
    };
    let words = text.split_whitespace();
    let words = words.skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let end = |word: &&str| !["#", "&&", "|", ";", ">"].contains(word);
    let words: Vec<_> = words.take_while(end).collect();
    (words.len() > 1 && words[0] == "cargo").then(|| words.join(" "))
}

/// Rows of tables that begin with a command: the line, the command, and the options that the other
/// cells name.
fn rows(markdown: &str) -> Vec<(usize, String, Vec<String>)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(markdown.lines()) {
        let Some((first, rest)) = line.strip_prefix("| `").and_then(|it| it.split_once("` |"))
        else {
            continue;
        };
        if let Some(command) = command(first).filter(|it| it.starts_with("cargo xtask ")) {
            let spans = rest.split('`').skip(1).step_by(2);
            let flags = spans.filter(|span| span.starts_with("--") && *span != "--help");
            let flags = flags.filter_map(|span| span.split_whitespace().next());
            found.push((number, command, flags.map(str::to_owned).collect()));
        }
    }
    found
}

/// The names in the first column of tables headed by `sim`.
fn scenarios(markdown: &str) -> Vec<(usize, String)> {
    let mut in_table = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(markdown.lines()) {
        in_table = line.starts_with("| `sim` |") || (in_table && line.starts_with('|'));
        let first = line.strip_prefix("| `").and_then(|it| it.split_once('`'));
        if let Some((name, _)) = first.filter(|(name, _)| in_table && *name != "sim") {
            found.push((number, name.to_owned()));
        }
    }
    found
}

/// The text of the comments; other lines are empty.
fn comments(code: &str) -> String {
    let text = |line| comment(line).unwrap_or_default().trim_start().to_owned() + "\n";
    code.lines().map(text).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn metadata() -> Metadata {
        let json = r#"{"packages": [{
            "name": "rpcnet-phi", "version": "0.2.0", "manifest_path": "rpcnet-phi/Cargo.toml",
            "features": {"sim": []},
            "targets": [{"name": "silence", "kind": ["example"]}, {"name": "memory", "kind": ["test"]}]
        }]}"#;
        Metadata::parse(json).unwrap()
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        let problems = check(path, text, &crate::Arguments::command(), &metadata());
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn commands_that_exist_pass() {
        for text in [
            "`cargo xtask tidy` and `cargo xtask bench rpc --peers`",
            "```sh\ncargo xtask demo     # digests\n$ cargo xtask sim crash --seeds 3 | tail\n```",
            "`cargo xtask sim SCENARIO`, `cargo xtask demo [PATH]`, `cargo xtask chaos [SCENARIO]...`",
            "`cargo test -p rpcnet-phi --test memory --\n--nocapture`",
            "`RUST_LOG=info cargo run -p rpcnet-phi --features sim --example silence`",
            "`cargo install cargo-fuzz`, `cargo test --workspace`",
            "`SIM crash --case \"of 128, lan\" --seeds 20`",
            "| `cargo xtask demo [PATH]` | digests; `--seconds`, `--json FILE` |",
            "| `sim` | what |\n|---|---|\n| `crash` | x |\n| | y |\n",
        ] {
            assert_eq!(found("README.md", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn commands_that_do_not_exist_are_caught_with_their_line() {
        for (text, wrong) in [
            ("`cargo xtask untidy`", "there is no untidy"),
            ("`cargo xtask bench-node`", "there is no bench-node"),
            ("`cargo xtask bench tcp`", "there is no tcp"),
            ("`cargo xtask sim flood --quick`", "there is no flood"),
            ("`cargo xtask demo --slow`", "there is no --slow"),
            ("`cargo xtask tidy up`", "it takes no up"),
            (
                "`cargo run -p rpcnet-psi --example silence`",
                "there is no package rpcnet-psi",
            ),
            (
                "`cargo run -p rpcnet-phi --example noise`",
                "rpcnet-phi has no example noise",
            ),
            (
                "`cargo test -p rpcnet-phi --test silence`",
                "rpcnet-phi has no test silence",
            ),
            (
                "`cargo run -p rpcnet-phi --features x`",
                "rpcnet-phi has no feature x",
            ),
        ] {
            let problems = found("README.md", &format!("# a\n\nsee\n{text}.\n"));
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(
                problems[0].starts_with("README.md:4: names `cargo "),
                "{problems:?}"
            );
            assert!(problems[0].ends_with(wrong), "{problems:?}");
            let block = format!("```sh\n{}\n```\n", text.replace('`', ""));
            assert_eq!(found("README.md", &block).len(), 1, "{block}");
            let comment = format!("//! See {text}.\n");
            assert_eq!(found("rpcnet-phi/src/x.rs", &comment).len(), 1, "{comment}");
        }
        // In a crate's folder, without a name, it is that crate.
        assert_eq!(
            found("rpcnet-phi/README.md", "`cargo test --test none`").len(),
            1
        );
    }

    #[test]
    fn options_and_scenarios_in_tables_are_checked() {
        assert_eq!(
            found("README.md", "| `cargo xtask demo` | digests; `--slow` |\n"),
            ["README.md:1: names `cargo xtask demo`: there is no --slow"]
        );
        assert_eq!(
            found(
                "README.md",
                "| `sim` | what |\n|---|---|\n| `flood` | x |\n"
            ),
            ["README.md:3: names `cargo xtask sim flood`: there is no such scenario"]
        );
    }

    #[test]
    fn a_table_that_leaves_a_command_or_a_crate_out_is_caught() {
        let root = Command::new("xtask")
            .subcommand(Command::new("tidy"))
            .subcommand(Command::new("node").hide(true))
            .subcommand(Command::new("bench").subcommand(Command::new("rpc")));
        let told = |readme: &str| -> Vec<_> {
            let problems = unlisted_commands(readme, &root, &metadata());
            problems.iter().map(Problem::to_string).collect()
        };
        let phi = "\n| [`rpcnet-phi`](rpcnet-phi) | x |\n";
        let all = format!("| `cargo xtask tidy` | x |\n| `cargo xtask bench rpc` | y |\n{phi}");
        assert_eq!(told(&all), [""; 0]);
        assert_eq!(
            told("| `cargo xtask tidy` | x |\n`cargo xtask bench rpc`, rpcnet-phi\n"),
            [
                "README.md: lists `cargo xtask bench rpc` in no table",
                "README.md: lists rpcnet-phi in no table",
            ]
        );
    }
}
