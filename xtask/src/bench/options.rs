//! Command line of `bench rpc`.

use std::{io, path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use xtask_load::{BODY_BYTES_MIN, Load, Runtime};
use xtask_report::Document;

use super::{bulk, cores, floor, grid, loss, mode::Mode, modes, open_loop, profile::RunProfile};

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Measure peers too: rpcnet 0.1.0, tonic with TLS, tarpc over TLS and over plain TCP, a quinn
    /// stream per call, irpc; with `--streaming` tonic and frames over plain TCP. They are built
    /// first, which takes minutes and cmake.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Only these payloads, such as 32,1KiB,1MiB.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = bytes)]
    pub(crate) payload: Vec<usize>,
    /// Only these numbers of calls in flight.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=IN_FLIGHT_MAX))]
    in_flight: Vec<u16>,
    /// Only these subjects. Rows have multiples of the floor if floor-udp is among them. Some are
    /// measured only when they are named: rpcnet-isolated (a stream of its own for each call),
    /// rpcnet-shards (a server with a thread and a socket for each core), rpcnet-typed (a typed
    /// method, bodies of 32 bytes), tarpc-tcp-inline (handlers that must not wait) and irpc-rpc (a
    /// stream for each call).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) subject: Vec<String>,
    #[command(flatten)]
    mode: ModeFlags,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

/// Options that several benchmarks share.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Measuring {
    /// One round of half a second, and a small grid.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Times that everything is measured; figures are medians over them [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of one measurement [default: 3].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Time before each measurement that does not count [default: 0.5].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warm_up: Option<Duration>,
    /// The tokio runtime of both processes, ours and peers' alike: of the current thread, or with a
    /// thread for each core that the process may use, more than one with `--unpinned` only.
    #[arg(long, value_parser = ["current", "multi"], default_value = "current")]
    runtime: String,
    /// Let the system choose cores. Else the server has the first one, the client the second.
    #[arg(long)]
    pub(crate) unpinned: bool,
    #[command(flatten)]
    pub(crate) files: Files,
}

/// Files of the results.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Files {
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Files {
    /// Writes those that were asked for.
    pub(crate) fn write<R: Serialize>(
        &self,
        command: &str,
        rows: &[R],
        profile: &RunProfile,
        figure: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if let Some(file) = &self.json {
            let document = Document::new(command, rows);
            document.with_machine(profile.json()).write(file)?;
        }
        if let Some(file) = &self.svg {
            std::fs::write(file, figure())?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
struct ModeFlags {
    /// Calls of 32 B that begin at a fixed rate, 50 % and 80 % of rpcnet's peak and 80 % of that of
    /// each peer, which are measured first. Latency counts from when a call was to begin. All are
    /// offered the same rates; a subject whose peak is less says that it cannot carry one. An empty
    /// loop that only reads the clock shows the tail of the machine itself.
    #[arg(long)]
    open_loop: bool,
    /// Items of a stream, each way.
    #[arg(long)]
    streaming: bool,
    /// Memory of so many idle connections, on both sides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4000))]
    connections: Option<u16>,
    /// Calls of 32 B to a server that may use all cores: one endpoint on a runtime of many threads
    /// next to a shard for each core. The client, a thread for each core, shares the cores with it,
    /// so this shows which of both does more with the same cores, not how much a server serves that
    /// has them to itself. For fewer cores start it under taskset.
    #[arg(long)]
    cores: bool,
    /// Calls of 32 B while 1 % of datagrams is lost, each way: shared streams next to a stream for
    /// each call. Between network namespaces, which takes root, ip and nft, else through a relay.
    #[arg(long)]
    loss: bool,
    /// Calls of 32 B on a link of 100 Mbit/s and a round trip of 20 ms, alone and beside bulk calls
    /// on the same connection, which keep both directions of the link full: four uploads with short
    /// replies and four downloads with short requests at a time, of 512 KiB to 2 MiB. The table
    /// says how much of the link they carried. The link is a relay in the client's process with a
    /// queue of a round trip each way; a TCP connection ends at the relay, so that buffers of the
    /// system come on top of its queue. With `--peers` beside tonic and a stream per call. At least
    /// 2 s each; with `--quick` 64 calls in flight only.
    #[arg(long)]
    bulk: bool,
    /// Bodies up to 10 MiB, one at a time: growth of the time with the size.
    #[arg(long)]
    sizes: bool,
    /// Calls beside floods: handshakes that are never finished, idle connections, streams
    /// that send a byte a second.
    #[arg(long)]
    floods: bool,
    /// Time from the beginning of a connection to its first reply: full handshake, resumed session,
    /// 0-RTT.
    #[arg(long)]
    reconnect: bool,
}

impl Options {
    pub(crate) fn mode(&self) -> &'static Mode {
        self.chosen_mode().1
    }

    /// The mode with its flag, which is empty for the usual one.
    fn chosen_mode(&self) -> (&'static str, &'static Mode) {
        let flags = &self.mode;
        let modes = [
            (flags.open_loop, "--open-loop", &open_loop::MODE),
            (flags.streaming, "--streaming", &modes::STREAMING),
            (
                flags.connections.is_some(),
                "--connections",
                &modes::CONNECTIONS,
            ),
            (flags.cores, "--cores", &cores::MODE),
            (flags.loss, "--loss", &loss::MODE),
            (flags.bulk, "--bulk", &bulk::MODE),
            (flags.sizes, "--sizes", &modes::SIZES),
            (flags.floods, "--floods", &modes::FLOODS),
            (flags.reconnect, "--reconnect", &modes::RECONNECT),
        ];
        let chosen = modes.into_iter().find(|(is_set, ..)| *is_set);
        chosen.map_or(("", &grid::MODE), |(_, flag, mode)| (flag, mode))
    }

    /// Checks that what was asked for means something in the mode.
    ///
    /// # Errors
    ///
    /// With the first option, or subject, that does not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (flag, mode) = self.chosen_mode();
        let measuring = &self.measuring;
        let given = [
            ("--payload", !self.payload.is_empty()),
            ("--in-flight", !self.in_flight.is_empty()),
            ("--subject", !self.subject.is_empty()),
            ("--peers", self.peers),
            ("--seconds", measuring.seconds.is_some()),
            ("--warm-up", measuring.warm_up.is_some()),
            ("--runtime multi", measuring.runtime() == Runtime::Multi),
            ("--unpinned", measuring.unpinned),
        ];
        let inapplicable =
            |(option, is_given): &(&str, bool)| *is_given && mode.inapplicable.contains(option);
        if let Some((option, _)) = given.iter().find(|it| inapplicable(it)) {
            return Err(format!("{option} does not apply to {flag}"));
        }
        if self.mode.floods && self.in_flight.len() > 1 {
            return Err("--floods takes one number of calls in flight".to_owned());
        }
        match self.subject.iter().find(|it| floor::is_floor(it)) {
            Some(floor) if self.mode.open_loop => Err(format!(
                "{floor} is measured in closed loops alone, not in --open-loop"
            )),
            _ => Ok(()),
        }
    }

    /// Whether rates are shares of a peak that is measured first.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.mode.open_loop
    }

    pub(crate) fn connections(&self) -> usize {
        self.mode.connections.unwrap_or_default().into()
    }

    /// The numbers of calls in flight that were asked for, else these.
    pub(crate) fn in_flight_or(&self, default: &[usize]) -> Vec<usize> {
        match &self.in_flight[..] {
            [] => default.to_vec(),
            asked => asked.iter().map(|calls| (*calls).into()).collect(),
        }
    }
}

impl Measuring {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    pub(crate) fn window(&self) -> Duration {
        let default = Duration::from_millis(if self.quick { 500 } else { 3_000 });
        self.seconds.unwrap_or(default)
    }

    pub(crate) fn load(&self, body_bytes: usize, in_flight: usize) -> Load {
        let warm_up = Duration::from_millis(if self.quick { 200 } else { 500 });
        Load {
            body_bytes,
            in_flight,
            warm_up: self.warm_up.unwrap_or(warm_up),
            window: self.window(),
        }
    }

    /// Times that a disturbed round is measured again.
    pub(crate) fn repeats_max(&self) -> u32 {
        if self.quick { 0 } else { 3 }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        match self.runtime.as_str() {
            "multi" => Runtime::Multi,
            _ => Runtime::Current,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number")?;
    if (0.01..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("not from 0.01 to 3600".into())
    }
}

/// A number of bytes: `32`, `1KiB`, `10MiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|it: char| !it.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        other => return Err(format!("{other:?} is no unit: B, KiB, MiB are")),
    };
    let bytes: usize = digits.parse().map_err(|_| "no number")?;
    match bytes.checked_mul(unit) {
        Some(bytes) if (BODY_BYTES_MIN..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "not from {BODY_BYTES_MIN} B to {} MiB",
            BYTES_MAX >> 20
        )),
    }
}

/// The default limit of messages.
const BYTES_MAX: usize = 16 << 20;

/// More calls than a server takes are no measurement.
const IN_FLIGHT_MAX: i64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::parse;

    #[test]
    fn defaults_are_five_rounds_of_three_seconds() {
        let options = parse(&[]).unwrap();
        assert_eq!(
            (
                options.measuring.rounds(),
                options.measuring.window().as_secs()
            ),
            (5, 3)
        );
        assert_eq!(options.measuring.runtime(), Runtime::Current);
        let quick = parse(&["--quick"]).unwrap();
        assert_eq!(
            (
                quick.measuring.rounds(),
                quick.measuring.window().as_millis()
            ),
            (1, 500)
        );
        let quick = parse(&["--quick", "--seconds", "2", "--runtime", "multi"]).unwrap();
        assert_eq!(
            (
                quick.measuring.window().as_secs(),
                quick.measuring.runtime()
            ),
            (2, Runtime::Multi)
        );
    }

    #[test]
    fn there_is_one_mode_at_a_time() {
        let title = |mode: &Mode| (mode.figure)(&[]);
        for (flags, mode) in [
            (&[][..], &grid::MODE),
            (&["--open-loop"], &open_loop::MODE),
            (&["--streaming"], &modes::STREAMING),
            (&["--connections", "1000"], &modes::CONNECTIONS),
            (&["--cores"], &cores::MODE),
            (&["--loss"], &loss::MODE),
            (&["--bulk"], &bulk::MODE),
            (&["--sizes"], &modes::SIZES),
            (&["--floods"], &modes::FLOODS),
            (&["--reconnect"], &modes::RECONNECT),
        ] {
            assert_eq!(title(parse(flags).unwrap().mode()), title(mode));
        }
        assert!(parse(&["--loss", "--sizes"]).is_err());
        assert!(parse(&["--connections", "0"]).is_err());
    }

    #[test]
    fn options_that_mean_nothing_in_a_mode_are_rejected() {
        let check = |arguments: &str| {
            let arguments: Vec<_> = arguments.split_whitespace().collect();
            parse(&arguments).unwrap().check()
        };
        for (arguments, option) in [
            ("--open-loop --in-flight 4", "--in-flight"),
            ("--open-loop --subject rpcnet,floor-udp", "floor-udp"),
            ("--sizes --payload 1MiB", "--payload"),
            ("--reconnect --subject tonic-tls", "--subject"),
            ("--connections 9 --seconds 1", "--seconds"),
            ("--cores --runtime multi", "--runtime multi"),
            ("--floods --in-flight 1,64", "--floods"),
        ] {
            let error = check(arguments).unwrap_err();
            assert!(error.contains(option), "{arguments}: {error}");
        }
        for arguments in [
            "--payload 32 --in-flight 4 --subject floor-udp --seconds 1 --unpinned",
            "--open-loop --peers --runtime multi --unpinned --subject rpcnet",
            "--streaming --payload 32",
            "--floods --in-flight 64",
            "--loss --in-flight 64",
            "--reconnect --quick",
        ] {
            assert_eq!(check(arguments), Ok(()), "{arguments}");
        }
    }

    #[test]
    fn payloads_have_units() {
        let options = parse(&["--payload", "32,1KiB,10MiB", "--in-flight", "1,64"]).unwrap();
        assert_eq!(options.payload, [32, 1024, 10 << 20]);
        assert_eq!(options.in_flight_or(&[]), [1, 64]);
        for (flag, wrong) in [
            ("--payload", "7"),
            ("--payload", "17MiB"),
            ("--payload", "1GB"),
            ("--in-flight", "0"),
            ("--rounds", "0"),
            ("--seconds", "0"),
        ] {
            assert!(parse(&[flag, wrong]).is_err(), "{flag} {wrong}");
        }
    }
}
