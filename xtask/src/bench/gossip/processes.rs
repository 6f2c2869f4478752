//! Processes of members, as the benchmark sees them.

use std::{error::Error, time::Duration};

use futures::future::try_join_all;
use tokio::time::Instant;
use xtask_harness::ChildProcess;

use super::{
    members,
    protocol::{Answer, Order},
};

/// The processes of a run. They are killed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    running: Vec<ChildProcess>,
}

impl Processes {
    /// Starts one more.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let name = format!("members-{}", self.running.len());
        let child = ChildProcess::start(&name, &[members::COMMAND])?;
        self.running.push(child);
        Ok(())
    }

    /// Sends an order to one process; its answer.
    ///
    /// # Errors
    ///
    /// When the process fails, ends, or does not answer in time.
    pub(crate) async fn ask(
        &mut self,
        process: usize,
        order: &Order,
    ) -> Result<Answer, Box<dyn Error>> {
        ask(&mut self.running[process], order).await
    }

    /// Sends an order to each process for which there is one, at the same time; their answers.
    ///
    /// # Errors
    ///
    /// When one of them fails, ends, or does not answer in time.
    pub(crate) async fn ask_each(
        &mut self,
        order: impl Fn(usize) -> Option<Order>,
    ) -> Result<Vec<Answer>, Box<dyn Error>> {
        let processes = self.running.iter_mut().enumerate();
        let asked = processes.filter_map(|(at, process)| {
            let order = order(at)?;
            Some(async move { ask(process, &order).await })
        });
        try_join_all(asked).await
    }

    /// Kills one process (SIGKILL).
    ///
    /// # Errors
    ///
    /// When it has ended before.
    pub(crate) async fn kill(&mut self, process: usize) -> Result<(), Box<dyn Error>> {
        Ok(self.running[process].kill().await?)
    }
}

async fn ask(process: &mut ChildProcess, order: &Order) -> Result<Answer, Box<dyn Error>> {
    process.send(order).await?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    match process.recv_by(deadline, "answer").await? {
        Answer::Failed { message } => Err(message.into()),
        answer => Ok(answer),
    }
}

/// A process that is busy with the joins of a thousand members answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
