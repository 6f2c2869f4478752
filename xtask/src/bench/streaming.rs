//! `bench rpc --streaming`: items of one stream, each way.

use std::error::Error;

use serde::Serialize;
use xtask_load::{ClientMessage, Direction, Job, StreamLoad, StreamReport};

use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, median, number};

use super::{
    client_process::{BenchSetup, Measurement},
    grid::readable_bytes,
    options::Options,
    rpc,
    subjects::{self, OURS},
};

/// A row of the results: medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    subject: &'static str,
    /// Sender: the server (`down`) or the client (`up`).
    direction: Direction,
    item_bytes: usize,
    items_per_s: f64,
    mib_per_s: f64,
    rounds: usize,
}

/// Measures.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select_among(options, &[OURS])?;
    let setup = BenchSetup::new(options, &subjects)?;
    rpc::print_conditions(options, &setup);
    let sizes = match &options.payload[..] {
        [] => &[32, 1 << 10, 64 << 10][..],
        asked => asked,
    };
    let rounds = options.rounds();
    let mut progress = Progress::new(2 * sizes.len() * rounds as usize * subjects.len());
    let mut rows = Vec::new();
    for direction in [Direction::Down, Direction::Up] {
        for item_bytes in sizes {
            let mut reports: Vec<Vec<StreamReport>> = vec![Vec::new(); subjects.len()];
            for round in 1..=rounds {
                for (at, subject) in subjects.iter().enumerate() {
                    let what = format!(
                        "{} {direction:?}, {} (round {round} of {rounds})",
                        readable_bytes(*item_bytes),
                        subject.name
                    );
                    progress.step(&what);
                    let measurement = Measurement {
                        subject: *subject,
                        job: Job::Stream(StreamLoad {
                            item_bytes: *item_bytes,
                            direction,
                            warm_up: options.warm_up(),
                            window: options.window(),
                        }),
                        in_flight: 1,
                        body_bytes: *item_bytes,
                        hold: false,
                    };
                    match setup.start(&measurement).await?.result().await {
                        Ok(ClientMessage::Stream(report)) => reports[at].push(report),
                        Ok(other) => {
                            return Err(format!("{what}: the client tells {other:?}").into());
                        }
                        Err(error) => return Err(format!("{what}: {error}").into()),
                    }
                }
            }
            for (subject, reports) in subjects.iter().zip(&reports) {
                rows.extend(Row::new(subject.name, direction, *item_bytes, reports));
            }
        }
    }
    drop(progress);
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

impl Row {
    fn new(
        subject: &'static str,
        direction: Direction,
        item_bytes: usize,
        reports: &[StreamReport],
    ) -> Option<Self> {
        let rates = reports.iter().map(|it| it.items as f64 / it.seconds);
        let items_per_s = median(rates.collect())?;
        Some(Self {
            subject,
            direction,
            item_bytes,
            items_per_s,
            mib_per_s: items_per_s * item_bytes as f64 / f64::from(1 << 20),
            rounds: reports.len(),
        })
    }

    fn from(&self) -> &'static str {
        match self.direction {
            Direction::Down => "server",
            Direction::Up => "client",
        }
    }
}

fn report(rows: &[Row]) -> String {
    let heading = ["one stream", "from", "item", "items/s", "MiB/s"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        lines.push(vec![
            row.subject.to_owned(),
            row.from().to_owned(),
            readable_bytes(row.item_bytes),
            number(row.items_per_s),
            number(row.mib_per_s),
        ]);
    }
    format_table(&lines)
}

fn figure(rows: &[Row]) -> String {
    let panel = |row: &Row| Panel {
        title: format!("{} from the {}", readable_bytes(row.item_bytes), row.from()),
        bars: vec![Bar {
            label: row.subject.to_owned(),
            value: Some(row.items_per_s),
            ours: row.subject == OURS,
        }],
    };
    let panels: Vec<Panel> = rows.iter().map(panel).collect();
    draw_bars("items per second through one stream", &panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_medians_of_items_and_bytes() {
        let reports = [100, 300, 200].map(|items| StreamReport {
            items,
            seconds: 0.5,
        });
        let row = Row::new(OURS, Direction::Up, 1 << 20, &reports).unwrap();
        assert_eq!(
            (row.items_per_s, row.mib_per_s, row.rounds),
            (400.0, 400.0, 3)
        );
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(
            (&json["direction"], &json["item_bytes"]),
            (&"up".into(), &(1 << 20).into())
        );
        assert!(report(&[row]).contains("client"));
    }
}
