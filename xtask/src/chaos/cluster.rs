//! Cluster of a run: its processes, what they tell, and the checks that failed.

use std::{
    error::Error,
    fmt::Display,
    io,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use xtask_harness::{ChildEvent, NodeSetup, ProcessGroup};

use super::{
    execution_log::LOG_EXTENSION,
    protocol::{Order, Setup, WorkerBehaviour},
    record::Record,
};

/// Processes of a run with the record of what they tell. Dropped, they are killed.
pub(crate) struct Cluster {
    pub(crate) processes: ProcessGroup,
    pub(crate) record: Record,
    /// Begin of the times that are printed.
    pub(crate) begin: Instant,
    pub(crate) failed_checks: Vec<String>,
}

/// Result of a check, or a description of what was seen instead.
pub(crate) type CheckResult = Result<(), String>;

impl Cluster {
    /// A cluster without processes.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            processes: ProcessGroup::new("chaos")?,
            record: Record::new(),
            begin: Instant::now(),
            failed_checks: Vec::new(),
        })
    }

    /// Folder of the keys, and of the logs of executed calls.
    pub(crate) fn folder(&self) -> &Path {
        self.processes.keys().folder()
    }

    /// Setup of a node like any other.
    pub(crate) fn setup(&self, name: &str, seeds: Vec<String>) -> Setup {
        let folder = self.folder();
        Setup {
            node: NodeSetup {
                name: name.to_owned(),
                keys: folder.to_owned(),
                seeds,
            },
            execution_log: folder.join(name).with_extension(LOG_EXTENSION),
            behaviour: WorkerBehaviour::Good,
            version: None,
            limited: false,
            reports_view: false,
            host: None,
        }
    }

    /// Starts the process of a node, whose keys have been issued; back at once.
    pub(crate) async fn launch(
        &mut self,
        command: Command,
        setup: Setup,
    ) -> Result<(), Box<dyn Error>> {
        let name = setup.node.name.clone();
        self.record.forget(&name);
        let start = Order::Start(setup);
        self.processes.start(&name, command, &start).await?;
        Ok(())
    }

    /// Sends an order and waits until the process has done it; the number that it tells.
    pub(crate) async fn ask(
        &mut self,
        name: &str,
        order: &Order,
        what: &str,
    ) -> Result<u64, Box<dyn Error>> {
        self.record.done.remove(name);
        self.processes.send(name, order).await?;
        self.wait_until_done(name, what).await
    }

    /// Waits until a process has carried out its last order; the number that it tells.
    pub(crate) async fn wait_until_done(
        &mut self,
        name: &str,
        what: &str,
    ) -> Result<u64, Box<dyn Error>> {
        let done = |record: &mut Record| {
            if let Some(count) = record.done.remove(name) {
                return Some(Ok(count));
            }
            let end = record.ended.get(name)?;
            Some(Err(format!("{name} ended before it could {what}: {end:?}")))
        };
        Ok(self.observe(name, what, ORDER_TIMEOUT, done).await??)
    }

    /// Waits until a process that was asked to end has done so.
    pub(crate) async fn wait_until_ended(
        &mut self,
        name: &str,
    ) -> Result<ExitStatus, Box<dyn Error>> {
        let ended = |record: &mut Record| record.ended.remove(name);
        Ok(self.observe(name, "end", END_TIMEOUT, ended).await??)
    }

    /// Records what processes do until `find` finds something in the record. The error says that
    /// `name` took too long to `what`.
    pub(crate) async fn observe<T>(
        &mut self,
        name: &str,
        what: &str,
        within: Duration,
        find: impl Fn(&mut Record) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = find(&mut self.record) {
                return Ok(found);
            }
            if !self.observe_until(deadline).await {
                return Err(format!("{name} took too long to {what}").into());
            }
        }
    }

    /// Records what a process does next, if it does something before the deadline.
    async fn observe_until(&mut self, deadline: Instant) -> bool {
        let Ok((name, event)) = timeout_at(deadline, self.processes.next()).await else {
            return false;
        };
        let end = match event {
            Ok(ChildEvent::Notice(notice)) => {
                self.record.add(&name, notice);
                return true;
            }
            Ok(ChildEvent::Ended(status)) => Ok(status),
            Err(error) => Err(error.to_string()),
        };
        self.record.ended.insert(name, end);
        true
    }

    /// Lets time pass until then.
    pub(crate) async fn sleep_until(&mut self, time: Instant) {
        while self.observe_until(time).await {}
    }

    /// Lets time pass.
    pub(crate) async fn sleep(&mut self, time: Duration) {
        self.sleep_until(Instant::now() + time).await;
    }

    /// Waits until the check passes; how long that took. If it does not pass in time, it has
    /// failed.
    pub(crate) async fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        check: impl Fn(&Record) -> CheckResult,
    ) -> Option<Duration> {
        let begin = Instant::now();
        loop {
            let finding = check(&self.record);
            let took = begin.elapsed();
            match finding {
                Ok(()) => {
                    self.print_step(format_args!("{what} (after {:.2} s)", took.as_secs_f64()));
                    return Some(took);
                }
                Err(seen) if took > within => {
                    self.fail(format!("{what}: not within {within:?}: {seen}"));
                    return None;
                }
                Err(_) => self.observe_until(begin + within).await,
            };
        }
    }

    pub(crate) fn fail(&mut self, failed_check: String) {
        println!("  FAILED: {failed_check}");
        self.failed_checks.push(failed_check);
    }

    pub(crate) fn print_step(&self, what: impl Display) {
        println!("  {:6.2} s  {what}", self.begin.elapsed().as_secs_f64());
    }
}

/// Longest orderly end of a process.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest start, end of calls, or drain: longer than the deadline of a call.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);
