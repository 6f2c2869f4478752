//! Rounds of measurements that alternate.

use std::error::Error;

use xtask_report::Progress;

use super::{client_process::BenchSetup, grid::readable_bytes, options::Measuring, rows::Row};

/// Measures all rounds of one group of rows, then of the next; in each of them one row after the
/// other, so that what the machine does beside hits all alike.
pub(crate) async fn measure(
    options: &Measuring,
    setup: &BenchSetup,
    mut groups: Vec<Vec<Row>>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let rounds = options.rounds();
    let mut progress = Progress::new(rounds as usize * groups.concat().len());
    for rows in &mut groups {
        for round in 1..=rounds {
            for row in rows.iter_mut() {
                let what = format!(
                    "{}, {}, {} (round {round} of {rounds})",
                    row.subject.name,
                    readable_bytes(row.load.body_bytes),
                    row.cell
                );
                progress.step(&what);
                if row.failed.is_some() {
                    continue;
                }
                match setup.measure(row).await {
                    Ok(report) => row.reports.push(report),
                    Err(error) if row.subject.may_fail() => row.failed = Some(error.to_string()),
                    Err(error) => return Err(format!("{what}: {error}").into()),
                }
            }
        }
    }
    Ok(groups.concat())
}
