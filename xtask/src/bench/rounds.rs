//! Rounds of measurements that alternate.

use std::error::Error;

use xtask_report::Progress;

/// Measures all rounds of one group of rows, then of the next; in each of them one row after the
/// other, so that what the machine does beside hits all alike. An error has the `name` of its row.
pub(crate) async fn measure<R>(
    rounds: u32,
    groups: &mut [Vec<R>],
    name: impl Fn(&R) -> String,
    mut measure: impl AsyncFnMut(&mut R) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let rows: usize = groups.iter().map(Vec::len).sum();
    let mut progress = Progress::new(rounds as usize * rows);
    for rows in groups {
        for round in 1..=rounds {
            for row in rows.iter_mut() {
                let what = format!("{} (round {round} of {rounds})", name(row));
                progress.step(&what);
                let measured = measure(row).await;
                measured.map_err(|error| format!("{what}: {error}"))?;
            }
        }
    }
    Ok(())
}
