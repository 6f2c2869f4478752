//! Processes of members, as the benchmark sees them.

use std::{error::Error, time::Duration};

use futures::future::try_join_all;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use xtask_harness::ChildProcess;

use super::{
    members,
    protocol::{Answer, Order},
};

/// The processes of a run. They are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Processes(Vec<ChildProcess>);

impl Processes {
    pub(crate) fn start(count: usize) -> Result<Self, Box<dyn Error>> {
        let start = |at| ChildProcess::start(&format!("members-{at}"), &[members::COMMAND]);
        Ok(Self((0..count).map(start).collect::<Result<_, _>>()?))
    }

    /// Sends an order to each process for which there is one, at the same time; their answers,
    /// which are of the type that the order asks for.
    pub(crate) async fn ask_each<T: DeserializeOwned>(
        &mut self,
        order: impl Fn(usize) -> Option<Order>,
    ) -> Result<Vec<T>, Box<dyn Error>> {
        let processes = self.0.iter_mut().enumerate();
        let asked = processes.filter_map(|(at, process)| {
            let order = order(at)?;
            Some(async move {
                process.send(&order).await?;
                let deadline = Instant::now() + ANSWER_TIMEOUT;
                let Answer { answer } = process.recv_by(deadline, "answer").await?;
                Ok(answer)
            })
        });
        try_join_all(asked).await
    }

    pub(crate) async fn kill(&mut self, process: usize) -> Result<(), Box<dyn Error>> {
        Ok(self.0[process].kill().await?)
    }
}

/// A process that is busy with the joins of a thousand members answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
