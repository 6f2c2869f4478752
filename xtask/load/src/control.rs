//! Control lines between client and server, and between both and their parent.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Failure, Setup, Usage, system::usage};

/// The server, seen from the client that started it.
///
/// It ends with its standard input: when this is dropped, or when this process ends in whatever
/// way.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts it, and waits until it serves.
    pub(crate) fn start(command: &[String], setup: &Setup) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().ok_or("the server has no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        write_line(&mut stdin, setup)?;
        let address = read_line::<Result<SocketAddr, String>>(&mut stdout)?
            .map_err(|message| format!("server: {message}"))?;
        Ok(Self {
            child,
            stdin: Some(stdin),
            stdout,
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resource usage so far. Blocks until the server has answered: some 100 µs.
    pub(crate) fn usage(&mut self) -> Result<Usage, Failure> {
        let stdin = self.stdin.as_mut().ok_or("the server was told to end")?;
        stdin.write_all(b"\n")?;
        read_line(&mut self.stdout)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Answers, in a thread of its own, each line of standard input with what this process has used;
/// ends the process with its input.
pub(crate) fn answer_usage() {
    thread::spawn(|| {
        for line in io::stdin().lock().lines() {
            if line.is_err() || write_message(&usage()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
}

/// Ends the process, from a thread of its own, when standard input ends: the parent is
/// gone.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
}

/// The first line of standard input.
pub(crate) fn read_message<T: DeserializeOwned>() -> Result<T, Failure> {
    // Not through a reader of our own, which would keep what it has read ahead.
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// A further line of standard input, whatever it says.
pub(crate) fn wait_for_line() -> io::Result<()> {
    io::stdin().read_line(&mut String::new()).map(|_| ())
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
        let mut text = &b"listening\n{\"Err\":\"no\"}\n"[..];
        let read: Result<SocketAddr, String> = read_line(&mut text).unwrap();
        assert_eq!(read, Err("no".to_owned()));
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
            early_data: false,
        };
        assert!(ServerProcess::start(&["true".to_owned()], &setup).is_err());
        assert!(ServerProcess::start(&[], &setup).is_err());
    }
}
