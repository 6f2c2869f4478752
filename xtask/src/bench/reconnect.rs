//! `bench rpc --reconnect`: time to the first reply of a connection.

use std::error::Error;

use serde::Serialize;
use xtask_load::{ClientMessage, Handshake, Job, Quantiles, ReconnectLoad};

use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, median, number, ratio};

use super::{
    client_process::{BenchSetup, Measurement},
    options::Options,
    rpc,
    subjects::{ALL, OURS},
};

/// A row of the results: medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    subject: &'static str,
    handshake: Handshake,
    /// Connections of a round.
    connections: usize,
    first_reply_p50_us: f64,
    first_reply_p99_us: f64,
    rounds: usize,
}

/// Measures.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let setup = BenchSetup::new(options, &ALL[..1])?;
    let count = if options.measuring.quick { 50 } else { 500 };
    println!(
        "{}; {count} connections a round, one after the other\n",
        setup.describe()
    );
    let rounds = options.rounds();
    let mut progress = Progress::new(rounds as usize * HANDSHAKES.len());
    let mut quantiles: Vec<Vec<Quantiles>> = vec![Vec::new(); HANDSHAKES.len()];
    for round in 1..=rounds {
        for (at, handshake) in HANDSHAKES.into_iter().enumerate() {
            let what = format!("{} (round {round} of {rounds})", name(handshake));
            progress.step(&what);
            let measurement = Measurement {
                subject: ALL[0],
                job: Job::Reconnect(ReconnectLoad { handshake, count }),
                in_flight: 1,
                body_bytes: 32,
                hold: false,
            };
            match setup.start(&measurement).await?.result().await {
                Ok(ClientMessage::Reconnects(measured)) => quantiles[at].push(measured),
                Ok(other) => return Err(format!("{what}: the client tells {other:?}").into()),
                Err(error) => return Err(format!("{what}: {error}").into()),
            }
        }
    }
    drop(progress);
    let rows: Vec<Row> = HANDSHAKES
        .into_iter()
        .zip(&quantiles)
        .filter_map(|(handshake, quantiles)| Row::new(handshake, count, quantiles))
        .collect();
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

impl Row {
    fn new(handshake: Handshake, connections: usize, quantiles: &[Quantiles]) -> Option<Self> {
        let of = |figure: fn(&Quantiles) -> f64| median(quantiles.iter().map(figure).collect());
        Some(Self {
            subject: OURS,
            handshake,
            connections,
            first_reply_p50_us: of(|it| it.p50_us)?,
            first_reply_p99_us: of(|it| it.p99_us)?,
            rounds: quantiles.len(),
        })
    }
}

fn report(rows: &[Row]) -> String {
    let heading = ["first reply", "p50 µs", "p99 µs", "of a full handshake's"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        lines.push(vec![
            name(row.handshake).to_owned(),
            number(row.first_reply_p50_us),
            number(row.first_reply_p99_us),
            ratio(row.first_reply_p50_us / rows[0].first_reply_p50_us),
        ]);
    }
    format_table(&lines)
}

fn figure(rows: &[Row]) -> String {
    let panel = Panel {
        title: "from the beginning of a connection".to_owned(),
        bars: rows
            .iter()
            .map(|row| Bar {
                label: name(row.handshake).to_owned(),
                value: Some(row.first_reply_p50_us),
                ours: true,
            })
            .collect(),
    };
    draw_bars(
        "µs to the first reply, median (shorter is better)",
        &[panel],
    )
}

fn name(handshake: Handshake) -> &'static str {
    match handshake {
        Handshake::Full => "full handshake",
        Handshake::Resumed => "resumed",
        Handshake::Early => "0-RTT",
    }
}

/// The full one first: what the others are held against.
const HANDSHAKES: [Handshake; 3] = [Handshake::Full, Handshake::Resumed, Handshake::Early];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_are_compared_with_a_full_handshake() {
        let row = |handshake, micros| {
            let quantiles = Quantiles {
                p50_us: micros,
                ..Quantiles::default()
            };
            Row::new(handshake, 10, &[quantiles]).unwrap()
        };
        let text = report(&[row(Handshake::Full, 1000.0), row(Handshake::Early, 250.0)]);
        assert!(text.contains("0.25x") && text.contains("1.00x"), "{text}");
        let json = serde_json::to_value(row(Handshake::Early, 250.0)).unwrap();
        assert_eq!(json["handshake"], "early");
    }
}
