//! The processes that the members are in.

use std::{env, error::Error, process::Stdio, time::Duration};

use futures::future::{join_all, try_join_all};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    members,
    protocol::{Answer, Order},
};

/// All of them. They end when their input does; [`end`](Self::end) sees to it that they have.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    running: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    /// Starts one more.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub(crate) fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg(members::COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C reaches us alone, who end the others in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start a process of members: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        self.running.push(Process {
            child,
            stdin,
            stdout: BufReader::new(stdout).lines(),
        });
        Ok(())
    }

    /// Tells one process something; its answer.
    ///
    /// # Errors
    ///
    /// When it fails, ends, or takes too long.
    pub(crate) async fn ask(
        &mut self,
        process: usize,
        order: &Order,
    ) -> Result<Answer, Box<dyn Error>> {
        self.running[process].ask(order).await
    }

    /// Tells each process something at the same time, those for which there is something; their answers.
    ///
    /// # Errors
    ///
    /// When one of them fails, ends, or takes too long.
    pub(crate) async fn ask_each(
        &mut self,
        order: impl Fn(usize) -> Option<Order>,
    ) -> Result<Vec<Answer>, Box<dyn Error>> {
        let asked = self
            .running
            .iter_mut()
            .enumerate()
            .filter_map(|(at, process)| {
                let order = order(at)?;
                Some(async move { process.ask(&order).await })
            });
        try_join_all(asked).await
    }

    /// Kills one, without a word.
    ///
    /// # Errors
    ///
    /// When it has ended before.
    pub(crate) async fn kill(&mut self, process: usize) -> std::io::Result<()> {
        self.running[process].child.kill().await
    }

    /// Ends all and waits for them, a while in peace.
    pub(crate) async fn end(self) {
        join_all(self.running.into_iter().map(|mut process| async move {
            drop(process.stdin.take());
            if timeout(END_TIMEOUT, process.child.wait()).await.is_err() {
                // One that is stuck; it may end at this very moment.
                let _ = process.child.kill().await;
            }
        }))
        .await;
    }
}

impl Process {
    async fn ask(&mut self, order: &Order) -> Result<Answer, Box<dyn Error>> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let stdin = self.stdin.as_mut().expect("open until the end");
        let answered = timeout(ANSWER_TIMEOUT, async {
            stdin.write_all(&line).await?;
            self.stdout.next_line().await
        });
        let line = answered
            .await
            .map_err(|_| {
                format!("a process of members does not answer within {ANSWER_TIMEOUT:?}")
            })??
            .ok_or("a process of members has ended")?;
        match serde_json::from_str(&line)? {
            Answer::Failed { message } => Err(message.into()),
            answer => Ok(answer),
        }
    }
}

/// What an answer may take: a process that is busy with the joins of a thousand members answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What an orderly end may take.
const END_TIMEOUT: Duration = Duration::from_secs(3);
