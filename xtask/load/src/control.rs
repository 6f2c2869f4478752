//! Control lines between client and server, and between both and their parent.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Failure, Order, Serving, Setup, Usage};

/// Last message of a process that cannot go on.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    failed: String,
}

/// The server, seen from the client that started it.
///
/// It ends with its standard input: when this is dropped, or when this process ends in whatever
/// way.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts it, and waits until it serves.
    pub(crate) fn start(command: &[String], setup: Setup) -> Result<(Self, Serving), Failure> {
        let (program, arguments) = command.split_first().ok_or("the server has no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        write_line(&mut stdin, &Order::Serve(setup))?;
        let serving = read_line(&mut stdout)?;
        let process = Self {
            child,
            stdin: Some(stdin),
            stdout,
        };
        Ok((process, serving))
    }

    /// Resource usage so far. Blocks until the server has answered: some 100 µs.
    pub(crate) fn usage(&mut self) -> Result<Usage, Failure> {
        let stdin = self.stdin.as_mut().ok_or("the server was told to end")?;
        write_line(stdin, &())?;
        read_line(&mut self.stdout)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Answers each order, a line of standard input, until the input ends; the exit code of the
/// process.
pub fn answer_each<O: DeserializeOwned, A: Serialize>(
    mut answer: impl FnMut(O) -> Result<A, Failure>,
) -> ExitCode {
    let answered = io::stdin().lines().try_for_each(|line| {
        let answer = answer(serde_json::from_str(&line?)?)?;
        Ok(write_message(&answer)?)
    });
    exit_code(answered)
}

/// Tells the parent why the process cannot go on, if it cannot; the exit code of the process.
pub(crate) fn exit_code(done: Result<(), Failure>) -> ExitCode {
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    let failed = failure.to_string();
    // A parent that is gone needs no answer.
    let _ = write_message(&Failed { failed });
    ExitCode::FAILURE
}

/// Ends the process, from a thread of its own, when standard input ends: the parent is
/// gone.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
}

/// The next line of standard input.
pub(crate) fn read_message<T: DeserializeOwned>() -> Result<T, Failure> {
    // Not through a reader of our own, which would keep what it has read ahead.
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Writes a line to standard output.
pub(crate) fn write_message<T: Serialize>(message: &T) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), message)
}

fn write_line<T: Serialize>(out: &mut impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// The next line of the server that is a JSON object; others, such as prints of a library, go to
/// standard error.
fn read_line<T: DeserializeOwned>(input: &mut impl BufRead) -> Result<T, Failure> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err("the server has ended".into());
        }
        if let Ok(Failed { failed }) = serde_json::from_str(&line) {
            return Err(format!("server: {failed}").into());
        }
        if line.starts_with('{') {
            return Ok(serde_json::from_str(&line)?);
        }
        eprint!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_json_are_skipped() {
        let mut text = &b"listening\n{\"address\":\"127.0.0.1:1\"}\n{\"failed\":\"no\"}\n"[..];
        let address = ([127, 0, 0, 1], 1).into();
        assert_eq!(
            read_line::<Serving>(&mut text).unwrap(),
            Serving { address }
        );
        let failure = read_line::<Serving>(&mut text).unwrap_err();
        assert_eq!(failure.to_string(), "server: no");
        assert!(read_line::<Usage>(&mut text).is_err());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error() {
        let setup = Setup {
            subject: "none".into(),
            keys: "none".into(),
            ip: [127, 0, 0, 1].into(),
            core: None,
            runtime: crate::Runtime::Current,
            in_flight: 1,
            body_bytes: 32,
            connections: 0,
            early_data: false,
        };
        assert!(ServerProcess::start(&["true".to_owned()], setup.clone()).is_err());
        assert!(ServerProcess::start(&[], setup).is_err());
    }
}
