//! Processes that pick.

use std::{env, error::Error, time::Duration};

use tokio::time::Instant;
use xtask_harness::ChildProcess;
use xtask_pick::{PickOrder, Reading};

use crate::project;

/// Process that measures picks. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct PickProcess(ChildProcess);

impl PickProcess {
    /// Builds and starts the process of rpcnet's strategies, or of the peers.
    pub(crate) fn start(peers: bool) -> Result<Self, Box<dyn Error>> {
        let program = if peers {
            project::build_peers("peer-picks")?
        } else {
            let this = env::current_exe()?;
            // Where this program was built, whatever that is called; of the two profiles the fast
            // one.
            let target = this.ancestors().nth(2);
            let target = target.ok_or("there is no folder to build in")?;
            project::build("xtask-pick", &["xtask"], "Cargo.toml", target)?
        };
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let child = ChildProcess::spawn(&name, project::program(&program))?;
        Ok(Self(child))
    }

    pub(crate) async fn measure(&mut self, order: &PickOrder) -> Result<Reading, Box<dyn Error>> {
        self.0.send(order).await?;
        let deadline = Instant::now() + order.window + SETUP_TIMEOUT;
        Ok(self.0.recv_by(deadline, "measure").await?)
    }
}

/// Time to make and warm up a strategy among thousands of workers.
const SETUP_TIMEOUT: Duration = Duration::from_secs(120);
