//! Timeline of a scenario.

use std::{error::Error, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep_until;

use super::{
    Options,
    checks::Row,
    cluster::{ChaosCluster, worker_name},
    scenario::Scenario,
};

/// Runs a scenario from its first process to its row.
pub(crate) async fn run_scenario(
    scenario: Scenario,
    options: &Options,
) -> Result<Row, Box<dyn Error>> {
    let mut cluster = ChaosCluster::start(options.workers(), scenario).await?;
    let length = options.length();
    if let Some(attacker) = scenario.attacker() {
        cluster.start_attacker(attacker).await?;
    }
    cluster.start_load(options.calls_per_s()).await?;
    if let Some(attacker) = scenario.late_attacker() {
        sleep_until_offset(&cluster, LATE_ATTACK_DELAY).await;
        cluster.start_attacker(attacker).await?;
    }
    let at = |share: f64| length.mul_f64(share);
    match scenario {
        Scenario::Kill => {
            sleep_until_offset(&cluster, at(0.2)).await;
            cluster.kill(0).await?;
        }
        Scenario::Stop => {
            sleep_until_offset(&cluster, at(0.2)).await;
            let pause = STOP_TIME_MAX.min(length / 3);
            cluster.signal(0, Signal::STOP)?;
            cluster.print_step(&format!("{} is stopped for {pause:?}", worker_name(1)));
            sleep_until_offset(&cluster, at(0.2) + pause).await;
            cluster.signal(0, Signal::CONT)?;
            cluster.print_step(&format!("{} goes on", worker_name(1)));
        }
        Scenario::Rolling => {
            let workers = cluster.names().len();
            for worker in 0..workers {
                // Over the first four fifths, if it is not slower than that.
                sleep_until_offset(&cluster, at(0.1 + 0.7 * worker as f64 / workers as f64)).await;
                cluster.restart(worker).await?;
            }
        }
        Scenario::Drain => {
            let half = cluster.names().len() / 2;
            sleep_until_offset(&cluster, at(0.2)).await;
            cluster.drain(half).await?;
            sleep_until_offset(&cluster, at(0.6)).await;
            cluster.resume(half).await?;
        }
        // What is wrong is wrong from the beginning to the last call.
        Scenario::Panic | Scenario::Old | Scenario::Slow | Scenario::Greedy | Scenario::Liar => {}
    }
    // Whatever went wrong is to be seen for a moment more.
    let least = cluster.load_started_at().elapsed() + SETTLE_TIME;
    sleep_until_offset(&cluster, length.max(least)).await;
    let run = cluster.finish().await?;
    // The worker that something happens to.
    let row = Row::new(scenario, &worker_name(1), run, length);
    for complaint in &row.complaints {
        println!("  FAILED: {complaint}");
    }
    Ok(row)
}

/// Waits for a time of the run.
async fn sleep_until_offset(cluster: &ChaosCluster, time: Duration) {
    sleep_until(cluster.load_started_at() + time).await;
}

/// When the late attacker begins: by then the director has most likely called every worker, so that
/// it is not a newcomer.
const LATE_ATTACK_DELAY: Duration = Duration::from_millis(500);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
const SETTLE_TIME: Duration = Duration::from_millis(500);
