//! Launcher of `cargo xtask`: builds the package that has the command, and runs it.
//!
//! It has no dependencies, so it is built in a second; from then on cargo shows its progress. The
//! demo has a package and a profile of its own and does not wait for benchmarks and simulators.

use std::{
    env,
    ffi::{OsStr, OsString},
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (package, profile, arguments) = target(&arguments);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["run", "--package", package, "--profile", profile, "--"])
        .args(arguments);
    // What cargo tells a program about its own package would have build scripts run again that
    // look at such variables, as ring's does.
    for (name, _) in env::vars_os().filter(|(name, _)| is_package_variable(name)) {
        cargo.env_remove(name);
    }
    run(cargo)
}

/// The package and the profile of a command, and the arguments to pass on.
fn target(arguments: &[OsString]) -> (&'static str, &'static str, &[OsString]) {
    match arguments {
        [first, rest @ ..] if first == "demo" => ("xtask-demo", "demo", rest),
        all => ("xtask", "release", all),
    }
}

/// Becomes cargo, so that signals and the exit code are those of the command.
#[cfg(unix)]
fn run(mut cargo: Command) -> ExitCode {
    let error = std::os::unix::process::CommandExt::exec(&mut cargo);
    failed(&cargo, &error)
}

#[cfg(not(unix))]
fn run(mut cargo: Command) -> ExitCode {
    match cargo.status() {
        Ok(status) => {
            u8::try_from(status.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => failed(&cargo, &error),
    }
}

fn failed(cargo: &Command, error: &std::io::Error) -> ExitCode {
    eprintln!(
        "error: cannot start {}: {error}",
        cargo.get_program().display()
    );
    ExitCode::FAILURE
}

fn is_package_variable(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_a_package_of_its_own() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let demo = arguments(&["demo", "--quick"]);
        assert_eq!(target(&demo), ("xtask-demo", "demo", &demo[1..]));
        let tidy = arguments(&["tidy", "demo"]);
        assert_eq!(target(&tidy), ("xtask", "release", &tidy[..]));
        assert_eq!(target(&[]), ("xtask", "release", &[][..]));
    }
}
