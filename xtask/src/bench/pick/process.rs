//! The processes that choose.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use xtask_pick::{PickOrder, Reading};

use crate::project;

/// A process that chooses as it is told. It ends with its input: when this is dropped, or this
/// process ends.
#[derive(Debug)]
pub(crate) struct PickProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl PickProcess {
    /// Builds and starts ours.
    ///
    /// # Errors
    ///
    /// When it cannot be built or started.
    pub(crate) fn ours() -> Result<Self, Box<dyn Error>> {
        let program = env::current_exe()?;
        // Where this program was built, whatever that is called; of the two profiles the fast one.
        let target = program
            .ancestors()
            .nth(2)
            .ok_or("there is no folder to build in")?;
        Self::start(&project::build(
            "xtask-pick",
            &["xtask"],
            "Cargo.toml",
            target,
        )?)
    }

    /// Builds and starts the peers.
    ///
    /// # Errors
    ///
    /// When they cannot be built or started.
    pub(crate) fn peers() -> Result<Self, Box<dyn Error>> {
        Self::start(&project::build_peers("peer-picks")?)
    }

    fn start(program: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = project::program(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Has it choose.
    ///
    /// # Errors
    ///
    /// When it cannot, or has ended.
    pub(crate) fn measure(&mut self, order: &PickOrder) -> Result<Reading, Box<dyn Error>> {
        let stdin = self
            .stdin
            .as_mut()
            .expect("its input is open until the end");
        stdin.write_all(order.to_line().as_bytes())?;
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("the process has ended".into());
        }
        Ok(Reading::from_line(line.trim_end())?)
    }
}

impl Drop for PickProcess {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}
