//! Path of the workspace, and the programs that commands run in it.

use std::{
    env,
    error::Error,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) use xtask_harness::Outcome;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in a folder of the workspace")
}

/// The cargo that started us, or the one in `PATH`, in the workspace's root.
///
/// Without what cargo tells a program about its own crate: build scripts that look at such
/// variables, as ring's does, would run again here, and once more when a user types the same
/// command.
pub(crate) fn cargo() -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os().filter(|(name, _)| is_package_variable(name)) {
        command.env_remove(name);
    }
    command
}

/// `program`, to be run in the workspace's root, without standard input.
pub(crate) fn program(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Standard output of `command`.
///
/// # Errors
///
/// When it cannot be started, fails (the message has its standard error), or prints no UTF-8.
pub(crate) fn run_for_stdout(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed ({}):\n{}", output.status, told.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds a program, to be fast; where it is. `manifest` is that of its workspace. `with`: packages
/// that have been built so, whose choice of features is kept, so that what the program has in
/// common with them is not built again.
///
/// # Errors
///
/// When it is not built.
pub(crate) fn build(
    package: &str,
    with: &[&str],
    manifest: &str,
    target: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let status = cargo()
        .args(["build", "--release", "--quiet", "--locked"])
        .args(["--bin", package, "--package", package])
        .args(with.iter().flat_map(|other| ["--package", other]))
        .args(["--manifest-path", manifest])
        .arg("--target-dir")
        .arg(target)
        .status()?;
    if !status.success() {
        return Err(format!("{package} was not built").into());
    }
    let name = format!("{package}{}", env::consts::EXE_SUFFIX);
    Ok(target.join("release").join(name))
}

/// Builds a program of the detached workspace.
///
/// # Errors
///
/// When it is not built, or there is no cmake.
pub(crate) fn build_peers(package: &str) -> Result<PathBuf, Box<dyn Error>> {
    let cmake = program("cmake").arg("--version").output();
    if !cmake.is_ok_and(|output| output.status.success()) {
        return Err("a peer needs cmake to be built: install it (`apt-get install cmake`)".into());
    }
    eprintln!("building the peers");
    let target = root().join("target/peers");
    build(package, &[], "xtask/peers/Cargo.toml", &target)
}

fn is_package_variable(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.starts_with("[workspace]"));
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_message() {
        let error = run_for_stdout(cargo().arg("no-such-subcommand")).unwrap_err();
        assert!(error.to_string().contains("no-such-subcommand"), "{error}");
    }

    /// `cargo test` tells this process about its crate.
    #[test]
    fn package_variables_are_removed() {
        assert!(env::var_os("CARGO_PKG_NAME").is_some() && env::var_os("CARGO").is_some());
        let cargo = cargo();
        let removed: Vec<_> = cargo
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .collect();
        assert!(removed.iter().any(|(name, _)| *name == "CARGO_PKG_NAME"));
        assert!(
            removed
                .iter()
                .any(|(name, _)| *name == "CARGO_MANIFEST_DIR")
        );
        assert!(
            removed
                .iter()
                .all(|(name, _)| *name != "CARGO_HOME" && *name != "CARGO")
        );
    }
}
