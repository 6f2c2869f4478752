//! What happens when.

use std::{error::Error, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep_until;

use super::{
    Options,
    scenario::Scenario,
    stage::{Stage, worker_name},
    verdict::Row,
};

/// Plays one scenario from its first process to its verdict.
pub(crate) async fn play(scenario: Scenario, options: &Options) -> Result<Row, Box<dyn Error>> {
    let mut stage = Stage::start(options.workers(), scenario).await?;
    let length = options.length();
    if let Some(attacker) = scenario.attacker() {
        stage.attack(attacker).await?;
    }
    stage.load(options.calls_per_s()).await?;
    if let Some(attacker) = scenario.late_attacker() {
        until(&stage, CALLED_AFTER).await;
        stage.attack(attacker).await?;
    }
    let at = |share: f64| length.mul_f64(share);
    match scenario {
        Scenario::Kill => {
            until(&stage, at(0.2)).await;
            stage.kill(0).await?;
        }
        Scenario::Stop => {
            until(&stage, at(0.2)).await;
            let pause = STOPPED_MAX.min(length / 3);
            stage.signal(0, Signal::STOP)?;
            stage.say(&format!("{} is stopped for {pause:?}", worker_name(1)));
            until(&stage, at(0.2) + pause).await;
            stage.signal(0, Signal::CONT)?;
            stage.say(&format!("{} goes on", worker_name(1)));
        }
        Scenario::Rolling => {
            let workers = stage.names().len();
            for worker in 0..workers {
                // Over the first four fifths, if it is not slower than that.
                until(&stage, at(0.1 + 0.7 * worker as f64 / workers as f64)).await;
                stage.restart(worker).await?;
            }
        }
        Scenario::Drain => {
            let half = stage.names().len() / 2;
            until(&stage, at(0.2)).await;
            stage.drain(half).await?;
            until(&stage, at(0.6)).await;
            stage.resume(half).await?;
        }
        // What is wrong is wrong from the beginning to the last call.
        Scenario::Panic | Scenario::Old | Scenario::Slow | Scenario::Greedy | Scenario::Liar => {}
    }
    // Whatever went wrong is to be seen for a moment more.
    let least = stage.begin().elapsed() + AFTERWARDS;
    until(&stage, length.max(least)).await;
    let run = stage.finish().await?;
    // The worker that something happens to.
    let row = Row::new(scenario, &worker_name(1), run, length);
    for complaint in &row.complaints {
        println!("  FAILED: {complaint}");
    }
    Ok(row)
}

/// Waits for a time of the run.
async fn until(stage: &Stage, time: Duration) {
    sleep_until(stage.begin() + time).await;
}

/// When the late attacker begins: by then the director has most likely called every worker, so that
/// it is not a newcomer.
const CALLED_AFTER: Duration = Duration::from_millis(500);
const STOPPED_MAX: Duration = Duration::from_secs(10);
const AFTERWARDS: Duration = Duration::from_millis(500);
