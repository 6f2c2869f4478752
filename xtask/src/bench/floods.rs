//! `bench rpc --floods`: a well-behaved client beside floods.

use std::{env, error::Error, net::SocketAddr, process::Command, time::Duration};

use serde_json::Value;
use tokio::time::Instant;
use xtask_harness::ChildProcess;
use xtask_load::{CallReport, ClientMessage};
use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, number, ratio};

use super::{
    client_process::BenchSetup,
    flood_process::{self, FloodKind},
    grid::Cell,
    options::Options,
    rows::{Conditions, Row},
    rpc,
    subjects::{ALL, OURS},
};

/// Measures without a flood and with each kind, round after round.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let ours = &ALL[..1];
    let setup = BenchSetup::new(options, ours)?;
    rpc::print_conditions(options, &setup);
    let cell = Cell {
        payload_bytes: 32,
        in_flight: options.in_flight.first().copied().unwrap_or(64),
    };
    let rounds = options.rounds();
    let mut progress = Progress::new(KINDS.len() * rounds as usize);
    let mut reports: Vec<Vec<CallReport>> = vec![Vec::new(); KINDS.len()];
    for round in 1..=rounds {
        for (at, kind) in KINDS.iter().enumerate() {
            let what = format!("{} (round {round} of {rounds})", name(*kind));
            progress.step(&what);
            let mut measurement = rpc::measurement(options, ours[0], cell);
            measurement.hold = true;
            let report = measure_under_flood(&setup, &measurement, *kind).await;
            reports[at].push(report.map_err(|error| format!("{what}: {error}"))?);
        }
    }
    drop(progress);
    let rows: Vec<Row> = KINDS
        .iter()
        .zip(&reports)
        .map(|(kind, reports)| {
            let conditions = Conditions {
                flood: Some(name(*kind)),
                ..Conditions::default()
            };
            Row::new(OURS, cell, reports, None).with(conditions)
        })
        .collect();
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

/// Measures calls under a flood, which begins before the client connects.
async fn measure_under_flood(
    setup: &BenchSetup,
    measurement: &super::client_process::Measurement,
    kind: Option<FloodKind>,
) -> Result<CallReport, Box<dyn Error>> {
    let mut client = setup.start(measurement).await?;
    let ClientMessage::Serving { address } = client.event().await? else {
        return Err("the client does not begin with its server's address".into());
    };
    let _flood = match kind {
        Some(kind) => Some(start_flood(setup, kind, address).await?),
        None => None,
    };
    client.proceed().await?;
    match client.result().await? {
        ClientMessage::Calls(report) => Ok(report),
        other => Err(format!("the client tells {other:?}").into()),
    }
}

/// Starts the flood and waits until it is complete. It ends with its handle.
async fn start_flood(
    setup: &BenchSetup,
    kind: FloodKind,
    server: SocketAddr,
) -> Result<ChildProcess, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args([flood_process::COMMAND, kind.name(), &server.to_string()])
        .arg(setup.keys());
    // The flood takes no time of the server's core.
    if let Some(core) = setup.client_core() {
        command.args(["--core", &core.to_string()]);
    }
    let mut child = ChildProcess::spawn(&format!("flood {}", kind.name()), command)?;
    let deadline = Instant::now() + READY_TIMEOUT;
    child.recv_by::<Value>(deadline, "begin").await?;
    Ok(child)
}

fn report(rows: &[Row]) -> String {
    let heading = [
        "32 B",
        "in flight",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "of its normal rate",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    let normal = rows.first().and_then(|row| row.figures);
    for row in rows {
        let flood = row.conditions.flood.unwrap_or_default();
        let mut line = vec![flood.to_owned(), row.in_flight.to_string()];
        if let (Some(figures), Some(normal)) = (row.figures, normal) {
            let part = figures.calls_per_s / normal.calls_per_s;
            line.extend([figures.calls_per_s, figures.p50_us, figures.p99_us].map(number));
            line.push(ratio(part));
            if flood != name(None) {
                let met = if part >= RATE_SHARE_MIN {
                    "met"
                } else {
                    "MISSED"
                };
                notes += &format!(
                    "{flood}: at least {} of its normal rate: {met}\n",
                    ratio(RATE_SHARE_MIN)
                );
            }
        }
        lines.push(line);
    }
    format!("{}{notes}", format_table(&lines))
}

fn figure(rows: &[Row]) -> String {
    let panel = Panel {
        title: "calls per second of a well-behaved client".to_owned(),
        bars: rows
            .iter()
            .map(|row| Bar {
                label: row.conditions.flood.unwrap_or_default().to_owned(),
                value: row.figures.map(|figures| figures.calls_per_s),
                ours: true,
            })
            .collect(),
    };
    draw_bars("calls beside floods of the server", &[panel])
}

fn name(kind: Option<FloodKind>) -> &'static str {
    kind.map_or("none", FloodKind::name)
}

/// Kinds of floods; none comes first, as the others are compared with it.
const KINDS: [Option<FloodKind>; 4] = [
    None,
    Some(FloodKind::Handshakes),
    Some(FloodKind::Idle),
    Some(FloodKind::Trickle),
];

const RATE_SHARE_MIN: f64 = 0.5;
const READY_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::tests::row;

    #[test]
    fn each_flood_is_compared_with_the_normal_rate() {
        let of = |flood, calls| {
            let conditions = Conditions {
                flood: Some(flood),
                ..Conditions::default()
            };
            row(OURS, (32, 64), calls, 1.0).with(conditions)
        };
        let text = report(&[of("none", 100), of("idle", 50), of("trickle", 49)]);
        assert!(
            text.contains("idle: at least 0.50x of its normal rate: met"),
            "{text}"
        );
        assert!(
            text.contains("trickle: at least 0.50x of its normal rate: MISSED"),
            "{text}"
        );
        assert!(!text.contains("none: at least"), "{text}");
    }
}
