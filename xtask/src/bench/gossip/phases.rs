//! Phases of a run: joins, steady state, kills.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};
use xtask_load::monotonic_us;
use xtask_report::{Progress, quantile};

use super::{
    Options,
    detection::DetectionLog,
    figures::{Figures, Measured, ms},
    placement::{Placement, SEEDS},
    processes::Processes,
    protocol::{Counters, Observation, Order, Views},
};

pub(crate) async fn measure(
    options: &Options,
    placement: &Placement,
) -> Result<Measured, Box<dyn Error>> {
    let mut progress = Progress::new(4);
    progress.step("starting processes");
    let mut processes = Processes::start(placement.numbers.len())?;
    let processes = &mut processes;
    let bare = count(processes).await?;
    let (began_us, lost_before) = (monotonic_us(), lost_datagrams());
    start(placement, processes).await?;
    let full_at_us = wait_for_full_views(placement, processes, &mut progress).await?;
    let joined = count(processes).await?.since(bare);

    progress.step("waiting until the joins are no news");
    let quiet_us = wait_for_quiet(processes).await?.map(|at| at - began_us);
    let window = Duration::from_secs(options.seconds.into());
    progress.step(&format!("measuring for {window:?}"));
    let (before, begin) = (count(processes).await?, Instant::now());
    sleep_until((begin + window).into()).await;
    let steady = count(processes).await?.since(before);
    let seconds = begin.elapsed().as_secs_f64();

    progress.step("killing");
    let detection = match options.kill {
        0 => DetectionLog::default(),
        _ => kill(placement, processes).await?,
    };
    let lost = lost_datagrams().zip(lost_before);
    let full_after_us = full_at_us.iter().map(|at| at.saturating_sub(began_us));
    let full_after_ms: Vec<f64> = full_after_us.map(ms).collect();
    let converged_ms = |share| quantile(full_after_ms.clone(), share).unwrap_or_default();
    let nodes = placement.nodes() as f64;
    let rss_per_node = steady.rss_bytes.saturating_sub(bare.rss_bytes) as f64 / nodes;
    let figures = Figures {
        nodes: placement.nodes(),
        processes: placement.numbers.len(),
        seconds,
        converged_ms: converged_ms(1.0),
        converged_p50_ms: converged_ms(0.5),
        quiet_ms: quiet_us.map(ms),
        join_sent_bytes_per_node: joined.sent_bytes_with_headers() / nodes,
        lost_datagrams: lost.map(|(now, before)| now - before),
        cpu_percent_per_node: steady.cpu_us as f64 / 1e4 / seconds / nodes,
        sent_bytes_per_node_s: steady.sent_bytes_with_headers() / seconds / nodes,
        sent_datagrams_per_node_s: steady.sent as f64 / seconds / nodes,
        rss_bytes_per_node: rss_per_node,
        rss_bytes_per_member: rss_per_node / nodes,
        suspicions: joined.suspicions + steady.suspicions,
        false_failures: detection.false_failures
            + usize::try_from(steady.failures + joined.failures)?,
        killed: detection.killed.len(),
        first_p50_ms: detection.first_ms(),
        all_know_p50_ms: detection.known_ms(0.5),
        all_know_p99_ms: detection.known_ms(0.99),
        all_know_max_ms: detection.known_ms(1.0),
        never_knew: detection.missing(),
    };
    Ok(Measured {
        figures,
        joined,
        steady,
        detection,
    })
}

/// The seeds first, alone, as the others have to be told where they are; then all at once.
async fn start(placement: &Placement, processes: &mut Processes) -> Result<(), Box<dyn Error>> {
    let key = std::array::from_fn(|_| {
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) as u8
    });
    let seed = |at| (at == 0).then_some(Order::Seed { count: SEEDS, key });
    let seeds: Vec<String> = processes.ask_each::<Vec<_>>(seed).await?.concat();
    let start = |at: usize| {
        Some(Order::Start {
            numbers: placement.numbers[at].clone(),
            seeds: seeds.clone(),
            key,
            nodes: placement.nodes(),
        })
    };
    processes.ask_each::<()>(start).await.map(drop)
}

/// Times at which each member had a full view.
async fn wait_for_full_views(
    placement: &Placement,
    processes: &mut Processes,
    progress: &mut Progress,
) -> Result<Vec<u64>, Box<dyn Error>> {
    let nodes = placement.nodes();
    progress.step(&format!("joining: {nodes} members"));
    let begin = Instant::now();
    loop {
        let views: Vec<Views> = processes.ask_each(|_| Some(Order::Views)).await?;
        let least = views.iter().map(|it| it.least).min().unwrap_or_default();
        let full_at_us: Vec<u64> = views.into_iter().flat_map(|it| it.full_at_us).collect();
        let full = full_at_us.len();
        if full == nodes {
            return Ok(full_at_us);
        }
        progress.update(&format!(
            "joining: {full} of {nodes} members see all, the least {least}"
        ));
        if begin.elapsed() > FULL_VIEWS_TIMEOUT {
            return Err(format!(
                "after {FULL_VIEWS_TIMEOUT:?} only {full} of {nodes} members see all, and one sees \
                 {least} now"
            )
            .into());
        }
        sleep(POLL_EVERY).await;
    }
}

/// Waits until the joins are no news any more, which shows in the size of datagrams; when that was,
/// unless it takes too long.
async fn wait_for_quiet(processes: &mut Processes) -> Result<Option<u64>, Box<dyn Error>> {
    let begin = Instant::now();
    let mut before = count(processes).await?;
    while begin.elapsed() < QUIET_TIMEOUT {
        sleep(QUIET_WINDOW).await;
        let now = count(processes).await?;
        let meanwhile = now.since(before);
        if meanwhile.sent_bytes < meanwhile.sent * QUIET_DATAGRAM_BYTES {
            return Ok(Some(monotonic_us()));
        }
        before = now;
    }
    Ok(None)
}

/// Has some go without a word and waits until all others know, or long enough.
async fn kill(
    placement: &Placement,
    processes: &mut Processes,
) -> Result<DetectionLog, Box<dyn Error>> {
    let alone = placement.single_member_process;
    let survives = |at| Some(at) != alone;
    let watch = |at| survives(at).then_some(Order::Watch);
    processes.ask_each::<()>(watch).await?;
    let mut log = DetectionLog::new(placement);
    if let Some(alone) = alone {
        let at_us = monotonic_us();
        processes.kill(alone).await?;
        log.kill(placement.numbers[alone].clone(), at_us, true);
    }
    let drops = |at: usize| {
        let numbers = placement.dropped[at].clone();
        survives(at).then_some(Order::Drop { numbers })
    };
    let dropped_at_us: Vec<u64> = processes.ask_each(drops).await?;
    for (at_us, numbers) in dropped_at_us.into_iter().zip(&placement.dropped) {
        log.kill(numbers.iter().copied(), at_us, false);
    }
    let deadline = Instant::now() + DETECTION_TIMEOUT;
    loop {
        let notices = |at| survives(at).then_some(Order::Notices);
        for notices in processes.ask_each::<Vec<Observation>>(notices).await? {
            log.add(&notices);
        }
        let evaluated = log.evaluate();
        if evaluated.missing() == 0 || Instant::now() > deadline {
            return Ok(evaluated);
        }
        sleep(POLL_EVERY).await;
    }
}

async fn count(processes: &mut Processes) -> Result<Counters, Box<dyn Error>> {
    let counters: Vec<Counters> = processes.ask_each(|_| Some(Order::Count)).await?;
    Ok(counters
        .into_iter()
        .fold(Counters::default(), Counters::plus))
}

/// UDP datagrams that this network namespace dropped because a socket's buffer was full; Linux
/// only.
fn lost_datagrams() -> Option<u64> {
    receive_buffer_errors(&std::fs::read_to_string("/proc/net/snmp").ok()?)
}

fn receive_buffer_errors(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(at)?.parse().ok()
}

const FULL_VIEWS_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait until the joins are gossiped no more; the measurement begins then all the same.
const QUIET_TIMEOUT: Duration = Duration::from_secs(120);
/// Over which datagrams are averaged.
const QUIET_WINDOW: Duration = Duration::from_secs(1);
/// A ping or an ack without news is smaller, one with two pieces of news is larger.
const QUIET_DATAGRAM_BYTES: u64 = 160;
const DETECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which processes are polled; their answers carry the times.
const POLL_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_buffers_are_found_among_the_counters() {
        let snmp = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n\
                    Udp: 5 6 7 8 42 9\nUdpLite: InDatagrams\nUdpLite: 1\n";
        assert_eq!(receive_buffer_errors(snmp), Some(42));
        assert_eq!(receive_buffer_errors("Tcp: 1\n"), None);
    }
}
