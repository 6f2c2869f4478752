//! Handle of a child process.

use std::{
    env, io,
    process::{Command, ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    time::{Instant, timeout_at},
};

use serde::{Serialize, de::DeserializeOwned};

use super::json_line::{self, Failure, LINE_BYTES_MAX};

/// A child that never outlives its parent: dropped, it is killed; and when the parent dies without
/// dropping anything, the child sees its standard input end and goes (see `ParentLink`).
///
/// It is a process group of its own, so that Ctrl-C reaches the parent alone, which ends in order.
#[derive(Debug)]
pub struct ChildProcess {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

/// Error between parent and child, by the child's name. After it the child is unusable, except
/// after `TimedOut`, which leaves it as it was.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The child could not be started.
    #[error("cannot start {0}: {1}")]
    Spawn(String, #[source] io::Error),
    /// The child closed its output: as a rule it has ended.
    #[error("{0} has ended")]
    Ended(String),
    /// The child cannot go on, as it says (see `run_child`).
    #[error("{0}: {1}")]
    Failed(String, String),
    /// A pipe broke, or what came through it was no message.
    #[error("lost the line to {0}: {1}")]
    Pipe(String, #[source] io::Error),
    /// The child did not do what was expected until the deadline.
    #[error("{0} took too long to {1}")]
    TimedOut(String, &'static str),
}

impl ChildProcess {
    /// Starts this executable with these arguments, such as `demo-node --role worker`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Spawn`].
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self, ProcessError> {
        let program = env::current_exe();
        let program = program.map_err(|error| ProcessError::Spawn(name.to_owned(), error))?;
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(name, command)
    }

    /// Starts `command`, whose standard input and output become the line to the child.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Spawn`].
    pub fn spawn(name: &str, mut command: Command) -> Result<Self, ProcessError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn();
        let mut child = child.map_err(|error| ProcessError::Spawn(name.to_owned(), error))?;
        let stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let stdout = Lines {
            reader: BufReader::new(stdout),
            partial: Vec::new(),
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            stdin,
            stdout,
        })
    }

    /// Tells the child what to do.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Pipe`], as a rule because it has ended.
    pub async fn send<O: Serialize>(&mut self, order: &O) -> Result<(), ProcessError> {
        let sent = match json_line::encode(order) {
            Ok(line) => self.stdin.write_all(&line).await,
            Err(error) => Err(error),
        };
        sent.map_err(|source| self.pipe_error(source))
    }

    /// Next message of the child. Lines that are no JSON object, such as prints of a library, go to
    /// standard error. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`], [`ProcessError::Failed`] and [`ProcessError::Pipe`].
    pub async fn recv<N: DeserializeOwned>(&mut self) -> Result<N, ProcessError> {
        loop {
            let line = self.stdout.next().await;
            let line = line.map_err(|source| self.pipe_error(source))?;
            let name = || self.name.clone();
            let line = line.ok_or_else(|| ProcessError::Ended(name()))?;
            if let Ok(Failure { failed }) = json_line::decode(&line) {
                return Err(ProcessError::Failed(name(), failed));
            }
            if line.starts_with(b"{") {
                return json_line::decode(&line).map_err(|source| self.pipe_error(source));
            }
            eprintln!("{}: {}", self.name, String::from_utf8_lossy(&line));
        }
    }

    /// [`recv`](Self::recv), until a deadline.
    ///
    /// # Errors
    ///
    /// Those of `recv`, and [`ProcessError::TimedOut`] with `what` it was expected to do.
    pub async fn recv_by<N: DeserializeOwned>(
        &mut self,
        deadline: Instant,
        what: &'static str,
    ) -> Result<N, ProcessError> {
        let name = self.name.clone();
        match timeout_at(deadline, self.recv()).await {
            Ok(received) => received,
            Err(_) => Err(ProcessError::TimedOut(name, what)),
        }
    }

    /// Ends it at once and without warning (SIGKILL), and waits until the system has done so.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Pipe`] when the system refuses.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        let killed = self.child.kill().await;
        killed.map_err(|source| self.pipe_error(source))
    }

    /// Waits for it to end on its own.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TimedOut`]: it still runs.
    pub async fn wait_by(&mut self, deadline: Instant) -> Result<ExitStatus, ProcessError> {
        // Its input stays open meanwhile, as it is ours and not `Child`'s: the end of it is an
        // order.
        match timeout_at(deadline, self.child.wait()).await {
            Ok(ended) => ended.map_err(|source| self.pipe_error(source)),
            Err(_) => Err(ProcessError::TimedOut(self.name.clone(), "end")),
        }
    }

    fn pipe_error(&self, source: io::Error) -> ProcessError {
        ProcessError::Pipe(self.name.clone(), source)
    }

    /// Its name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, until its end has been awaited.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Bounded lines; what a cancelled `next` has read is kept for the following one.
#[derive(Debug)]
struct Lines<R> {
    reader: R,
    partial: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The next line without its end; `None` at the end of the stream.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = (LINE_BYTES_MAX - self.partial.len()) as u64;
        let mut rest = (&mut self.reader).take(room);
        rest.read_until(b'\n', &mut self.partial).await?;
        if self.partial.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Some(std::mem::take(&mut self.partial)));
        }
        match self.partial.len() {
            LINE_BYTES_MAX => Err(io::Error::other("a line is too long")),
            // A line without end was cut short by the death of its writer.
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
