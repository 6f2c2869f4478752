//! Commands in texts: each exists, with its options and what it is to run; and the README
//! lists all of `cargo xtask`.

use cargo_metadata::{Package, TargetKind};
use clap::{
    Command, CommandFactory as _,
    builder::ValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Problem, workspace::Workspace};
use crate::{
    Arguments,
    markdown::{Cell, Markdown, Row},
};

/// Every command that a text names and that could not be run.
pub(super) fn that_do_not_exist(workspace: &Workspace) -> Vec<Problem> {
    let xtask = visible(&Arguments::command());
    let mut problems = Vec::new();
    for (path, text) in &workspace.texts {
        let Some(markdown) = Markdown::of_file(path, text, &["///", "//!", "//"]) else {
            continue;
        };
        let folder = path.split('/').next().unwrap_or_default();
        let in_code = markdown
            .code
            .iter()
            .map(|(line, code)| (*line, command(code)));
        let commands = in_code
            .chain(scenarios(&markdown))
            .filter_map(|(line, words)| {
                let wrong = match words.get(1)?.as_str() {
                    "xtask" => wrong_xtask(&xtask, &words[2..]),
                    "run" | "test" | "bench" | "build" => {
                        wrong_cargo(&words[2..], folder, workspace)
                    }
                    _ => None,
                };
                Some((line, words, wrong?))
            });
        let flags = rows(&markdown).filter_map(|(row, words)| {
            let wrong = wrong_flag(&xtask, &words[2..], &row.cells[1..]);
            Some((row.line, words, wrong?))
        });
        problems.extend(commands.chain(flags).map(|(line, words, wrong)| {
            let what = format!("names `{}`: {wrong}", words.join(" "));
            Problem::new(format!("{path}:{line}"), what)
        }));
    }
    problems
}

/// The commands of `cargo xtask` and the crates that the tables of the README leave out.
pub(super) fn that_are_not_listed(workspace: &Workspace) -> Vec<Problem> {
    unlisted(workspace, &visible(&Arguments::command()))
}

fn unlisted(workspace: &Workspace, xtask: &Command) -> Vec<Problem> {
    let readme = workspace.text("README.md").unwrap_or_default();
    let markdown = Markdown::parse(readme);
    let listed: Vec<_> = rows(&markdown)
        .map(|(_, words)| words.join(" ") + " ")
        .collect();
    let commands = leaf_commands(xtask, "cargo xtask").into_iter();
    let commands =
        commands.filter(|it| !listed.iter().any(|row| row.starts_with(&format!("{it} "))));
    let is_listed = |package: &&Package| {
        let (name, folder) = (&package.name, workspace.folder(package));
        readme.contains(&format!("\n| [`{name}`]({folder}) |"))
    };
    let crates = workspace.published().filter(|package| !is_listed(package));
    let crates = crates.map(|package| package.name.as_str());
    let missing = commands
        .map(|it| format!("`{it}`"))
        .chain(crates.map(str::to_owned));
    let problem = |it| Problem::new("README.md", format!("lists {it} in no table"));
    missing.map(problem).collect()
}

/// The commands that people see, without those that only group others.
fn leaf_commands(command: &Command, name: &str) -> Vec<String> {
    if !command.has_subcommands() {
        return vec![name.to_owned()];
    }
    let inner = command.get_subcommands();
    inner
        .flat_map(|it| leaf_commands(it, &format!("{name} {}", it.get_name())))
        .collect()
}

/// The command without the subcommands that it hides.
fn visible(command: &Command) -> Command {
    let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
    Command::new("cargo xtask")
        .subcommand_required(true)
        .subcommands(visible.cloned())
}

/// Whether words are no command line of xtask. Parts may be missing, or be placeholders.
fn wrong_xtask(xtask: &Command, words: &[String]) -> Option<String> {
    let error = parse(xtask, words).err()?;
    let placeholder = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => is_placeholder(word),
        _ => false,
    };
    let is_partial = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
    );
    (!is_partial && !placeholder).then(|| first_line(error))
}

/// An option in the cells beside a command that it does not have.
fn wrong_flag(xtask: &Command, words: &[String], cells: &[Cell]) -> Option<String> {
    let codes = cells.iter().flat_map(|cell| &cell.code);
    let flags = codes.filter(|code| code.starts_with("--"));
    let mut flags = flags.filter_map(|code| code.split_whitespace().next());
    flags.find_map(|flag| {
        let error = parse(xtask, &[words, &[flag.to_owned()]].concat()).err()?;
        (error.kind() == ErrorKind::UnknownArgument).then(|| first_line(error))
    })
}

/// Parses the words as xtask would. If one is a placeholder, all values may be any text.
fn parse(xtask: &Command, words: &[String]) -> clap::error::Result<()> {
    let xtask = match words.iter().any(|word| is_placeholder(word)) {
        true => with_any_values(xtask.clone()),
        false => xtask.clone(),
    };
    let words = ["cargo xtask"]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    xtask.try_get_matches_from(words).map(drop)
}

fn with_any_values(command: Command) -> Command {
    let command = command.mut_subcommands(with_any_values);
    command.mut_args(|argument| match argument.get_action().takes_values() {
        true => argument.value_parser(ValueParser::string()),
        false => argument,
    })
}

/// First line of the message of clap, which says what is wrong.
fn first_line(error: clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// `FILE`, `[PATH]`, `[SCENARIO]...`, `...`: what a reader puts something else for.
fn is_placeholder(word: &str) -> bool {
    !word
        .chars()
        .any(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
}

/// The package, target or feature that cargo would not find.
fn wrong_cargo(words: &[String], folder: &str, workspace: &Workspace) -> Option<String> {
    let mut words = words
        .iter()
        .map(String::as_str)
        .take_while(|word| *word != "--");
    let (mut name, mut features, mut targets) = (folder, Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "-p" | "--package" => name = value(),
            "--features" => features.push(value()),
            "--example" | "--test" | "--bench" | "--bin" => {
                targets.push((TargetKind::from(word.trim_start_matches('-')), value()));
            }
            _ => {}
        }
    }
    let Some(package) = workspace.package(name) else {
        let is_free = name == folder || is_placeholder(name);
        return (!is_free).then(|| format!("there is no package {name}"));
    };
    for (kind, target) in targets {
        let mut all = package.targets.iter();
        let is_known = all.any(|it| it.name == target && it.kind.contains(&kind));
        if !is_known && !is_placeholder(target) {
            return Some(format!("{name} has no {kind} {target}"));
        }
    }
    let unknown = features
        .into_iter()
        .find(|it| !package.features.contains_key(*it))?;
    Some(format!("{name} has no feature {unknown}"))
}

/// The words of `cargo ...`, without a prompt, variables before it and what follows it; none if
/// the code is no such command. `SIM` is `cargo xtask sim`.
fn command(code: &str) -> Vec<String> {
    let code = code.trim().trim_start_matches("$ ");
    let code = match code.strip_prefix("SIM ") {
        Some(scenario) => &format!("cargo xtask sim {scenario}"),
        None => code,
    };
    let words = shlex::split(code).unwrap_or_default().into_iter();
    let words = words.skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let is_end = |word: &String| ["&&", "|", ";", ">"].contains(&word.as_str());
    let words: Vec<_> = words.take_while(|word| !is_end(word)).collect();
    match words.first().is_some_and(|word| word == "cargo") {
        true => words,
        false => Vec::new(),
    }
}

/// Rows of tables that begin with a command of xtask, each with the words of the command.
fn rows(markdown: &Markdown) -> impl Iterator<Item = (&Row, Vec<String>)> {
    let rows = markdown.tables.iter().flatten();
    rows.filter_map(|row| {
        let command = command(row.cells[0].code.first()?);
        (command.get(1)? == "xtask").then_some((row, command))
    })
}

/// The commands of the scenarios in the first column of tables headed by `sim`.
fn scenarios(markdown: &Markdown) -> impl Iterator<Item = (usize, Vec<String>)> {
    let tables = markdown.tables.iter();
    let tables = tables.filter(|table| table[0].cells[0].code == ["sim"]);
    let rows = tables.flat_map(|table| &table[1..]);
    rows.filter_map(|row| {
        let name = row.cells[0].code.first()?;
        Some((
            row.line,
            ["cargo", "xtask", "sim", name].map(str::to_owned).to_vec(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tidy::tests;

    fn workspace(path: &str, text: &str) -> Workspace {
        let mut phi = tests::package("rpcnet-phi");
        phi["features"] = json!({"sim": []});
        phi["targets"] = json!([
            {"name": "silence", "kind": ["example"], "src_path": ""},
            {"name": "memory", "kind": ["test"], "src_path": ""},
        ]);
        tests::workspace(&[phi], &[(path, text)])
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        tests::found(that_do_not_exist, &workspace(path, text))
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
            "| a | b |\n|---|---|\n| `cargo xtask demo [PATH]` | digests; `--seconds`, `--json FILE` |",
            "| `sim` | what |\n|---|---|\n| `crash` | x |\n| | y |\n",
        ] {
            assert_eq!(found("README.md", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn commands_that_do_not_exist_are_caught_with_their_line() {
        for (text, wrong) in [
            ("`cargo xtask untidy`", "unrecognized subcommand 'untidy'"),
            (
                "`cargo xtask bench-node`",
                "unrecognized subcommand 'bench-node'",
            ),
            ("`cargo xtask bench tcp`", "unrecognized subcommand 'tcp'"),
            (
                "`cargo xtask sim flood --quick`",
                "invalid value 'flood' for '<SCENARIO>'",
            ),
            (
                "`cargo xtask demo --slow`",
                "unexpected argument '--slow' found",
            ),
            ("`cargo xtask tidy up`", "unexpected argument 'up' found"),
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
            found(
                "README.md",
                "| a | b |\n|---|---|\n| `cargo xtask demo` | digests; `--slow` |\n"
            ),
            ["README.md:3: names `cargo xtask demo`: unexpected argument '--slow' found"]
        );
        assert_eq!(
            found(
                "README.md",
                "| `sim` | what |\n|---|---|\n| `flood` | x |\n"
            ),
            ["README.md:3: names `cargo xtask sim flood`: invalid value 'flood' for '<SCENARIO>'"]
        );
    }

    #[test]
    fn a_table_that_leaves_a_command_or_a_crate_out_is_caught() {
        let root = Command::new("xtask")
            .subcommand(Command::new("tidy"))
            .subcommand(Command::new("node").hide(true))
            .subcommand(Command::new("bench").subcommand(Command::new("rpc")));
        let told = |readme: &str| -> Vec<_> {
            let problems = unlisted(&workspace("README.md", readme), &visible(&root));
            problems.iter().map(Problem::to_string).collect()
        };
        let phi = "\n| [`rpcnet-phi`](rpcnet-phi) | x |\n";
        let head = "| a | b |\n|---|---|\n";
        let all =
            format!("{head}| `cargo xtask tidy` | x |\n| `cargo xtask bench rpc` | y |\n{phi}");
        assert_eq!(told(&all), [""; 0]);
        assert_eq!(
            told(
                &(head.to_owned()
                    + "| `cargo xtask tidy` | x |\n\n`cargo xtask bench rpc`, rpcnet-phi\n")
            ),
            [
                "README.md: lists `cargo xtask bench rpc` in no table",
                "README.md: lists rpcnet-phi in no table",
            ]
        );
    }
}
