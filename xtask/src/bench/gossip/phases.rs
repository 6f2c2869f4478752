//! Phases of a run: joins, steady state, kills.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};
use xtask_load::monotonic_us;
use xtask_report::Progress;

use super::{
    Options,
    detection::DetectionLog,
    figures::{Figures, Measured, quantile},
    placement::{Placement, SEEDS},
    processes::Processes,
    protocol::{Answer, Counters, Order, Views},
};

/// Runs all phases.
///
/// # Errors
///
/// When a process fails, or views do not become full.
pub(crate) async fn measure(
    options: &Options,
    placement: &Placement,
) -> Result<Measured, Box<dyn Error>> {
    let mut processes = Processes::default();
    let processes = &mut processes;
    let mut progress = Progress::new(4);
    progress.step("starting processes");
    for _ in &placement.numbers {
        processes.start()?;
    }
    let bare = count(processes).await?;
    let (began_us, lost_before) = (monotonic_us(), lost_datagrams());
    start(placement, processes).await?;
    let full_at_us = wait_for_full_views(placement, processes, began_us, &mut progress).await?;
    let joined = count(processes).await? - bare;

    progress.step("waiting until the joins are no news");
    let quiet_us = wait_for_quiet(processes).await?.map(|at| at - began_us);
    progress.step(&format!("measuring for {:?}", options.window()));
    let (before, begin) = (count(processes).await?, Instant::now());
    sleep_until((begin + options.window()).into()).await;
    let steady = count(processes).await? - before;
    let seconds = begin.elapsed().as_secs_f64();

    progress.step("killing");
    let noticed = match options.kill() {
        0 => DetectionLog::default(),
        _ => kill(placement, processes).await?,
    };
    let lost = lost_datagrams()
        .zip(lost_before)
        .map(|(now, before)| now - before);
    let all_us: Vec<u64> = full_at_us
        .iter()
        .map(|at| at.saturating_sub(began_us))
        .collect();
    let nodes = placement.nodes() as f64;
    let rss_per_node = steady.rss_bytes.saturating_sub(bare.rss_bytes) as f64 / nodes;
    let false_failures =
        noticed.false_failures + usize::try_from(steady.failures + joined.failures)?;
    let known = |q| quantile(&noticed.known_after_us, q).map(ms);
    Ok(Measured {
        joined,
        steady,
        figures: Figures {
            nodes: placement.nodes(),
            processes: placement.numbers.len(),
            seconds,
            converged_ms: quantile(&all_us, 1.0).map(ms).unwrap_or_default(),
            converged_p50_ms: quantile(&all_us, 0.5).map(ms).unwrap_or_default(),
            quiet_ms: quiet_us.map(ms),
            join_sent_bytes_per_node: joined.sent_bytes_with_headers() / nodes,
            lost_datagrams: lost,
            cpu_percent_per_node: steady.cpu_us / 1e4 / seconds / nodes,
            sent_bytes_per_node_s: steady.sent_bytes_with_headers() / seconds / nodes,
            sent_datagrams_per_node_s: steady.sent as f64 / seconds / nodes,
            rss_bytes_per_node: rss_per_node,
            rss_bytes_per_member: rss_per_node / nodes,
            suspicions: joined.suspicions + steady.suspicions,
            false_failures,
            killed: noticed.killed.len(),
            first_p50_ms: noticed.first_p50_us().map(ms),
            all_know_p50_ms: known(0.5),
            all_know_p99_ms: known(0.99),
            all_know_max_ms: known(1.0),
            never_knew: noticed.missing,
        },
        detection: noticed,
    })
}

/// The seeds first, alone, as the others have to be told where they are; then all at once.
async fn start(placement: &Placement, processes: &mut Processes) -> Result<(), Box<dyn Error>> {
    let key = std::array::from_fn(|_| {
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) as u8
    });
    let Answer::Seeds { addrs } = processes.ask(0, &Order::Seed { count: SEEDS, key }).await?
    else {
        return Err(unexpected_answer("seeds"));
    };
    processes
        .ask_each(|at| {
            Some(Order::Start {
                numbers: placement.numbers[at].clone(),
                seeds: addrs.clone(),
                key,
                nodes: placement.nodes(),
            })
        })
        .await?;
    Ok(())
}

/// Times at which each member had a full view.
async fn wait_for_full_views(
    placement: &Placement,
    processes: &mut Processes,
    began_us: u64,
    progress: &mut Progress,
) -> Result<Vec<u64>, Box<dyn Error>> {
    let nodes = placement.nodes();
    progress.step(&format!("joining: {nodes} members"));
    loop {
        let mut all = Views {
            least: nodes,
            ..Views::default()
        };
        for answer in processes.ask_each(|_| Some(Order::Views)).await? {
            let Answer::Views(views) = answer else {
                return Err(unexpected_answer("views"));
            };
            all.least = all.least.min(views.least);
            all.full_at_us.extend(views.full_at_us);
        }
        let full = all.full_at_us.len();
        if full == nodes {
            return Ok(all.full_at_us);
        }
        progress.update(&format!(
            "joining: {full} of {nodes} members see all, the least {}",
            all.least
        ));
        if monotonic_us() - began_us > micros(FULL_VIEWS_TIMEOUT) {
            return Err(format!(
                "after {FULL_VIEWS_TIMEOUT:?} only {full} of {nodes} members see all, and one sees {} now",
                all.least
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
        let meanwhile = now - before;
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
    let small = placement.single_member_process;
    processes
        .ask_each(|at| (Some(at) != small).then_some(Order::Watch))
        .await?;
    let mut noticed = DetectionLog::new(placement);
    let drops = |at: usize| {
        let numbers = placement.dropped[at].clone();
        (!numbers.is_empty()).then_some(Order::Drop { numbers })
    };
    if let Some(small) = small {
        let at_us = monotonic_us();
        processes.kill(small).await?;
        noticed.kill(placement.numbers[small].clone(), at_us, true);
    }
    let answers = processes.ask_each(drops).await?;
    let dropped = placement
        .dropped
        .iter()
        .filter(|numbers| !numbers.is_empty());
    for (answer, numbers) in answers.into_iter().zip(dropped) {
        let Answer::Done { at_us } = answer else {
            return Err(unexpected_answer("a time"));
        };
        noticed.kill(numbers.iter().copied(), at_us, false);
    }
    let deadline = Instant::now() + DETECTION_TIMEOUT;
    loop {
        for answer in processes
            .ask_each(|at| (Some(at) != small).then_some(Order::Notices))
            .await?
        {
            let Answer::Notices { notices } = answer else {
                return Err(unexpected_answer("notices"));
            };
            noticed.add(&notices);
        }
        if noticed.is_complete() || Instant::now() > deadline {
            noticed.evaluate();
            return Ok(noticed);
        }
        sleep(POLL_EVERY).await;
    }
}

fn unexpected_answer(expected: &str) -> Box<dyn Error> {
    format!("unexpected answer of a process of members, expected {expected}").into()
}

async fn count(processes: &mut Processes) -> Result<Counters, Box<dyn Error>> {
    let mut sum = Counters::default();
    for answer in processes.ask_each(|_| Some(Order::Count)).await? {
        let Answer::Count(count) = answer else {
            return Err(unexpected_answer("counters"));
        };
        sum += count;
    }
    Ok(sum)
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

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Longest wait for full views.
const FULL_VIEWS_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait until the joins are gossiped no more; the measurement begins then all the same.
const QUIET_TIMEOUT: Duration = Duration::from_secs(120);
/// Over which datagrams are averaged.
const QUIET_WINDOW: Duration = Duration::from_secs(1);
/// A ping or an ack without news is smaller, one with two pieces of news is larger.
const QUIET_DATAGRAM_BYTES: u64 = 160;
/// Longest wait until all survivors know of the killed members.
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
