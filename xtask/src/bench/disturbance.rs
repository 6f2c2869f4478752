//! Disturbance of a measurement by what else the machine does, with limits that are fixed
//! beforehand.
//!
//! Before and after each measurement an [empty loop](xtask_load::clock_gaps) reads the clock for 20
//! ms, on the core of each process at the same time, and sees the time that it was not run. During
//! the measurement the system counts what other processes took, and what the hypervisor gave to
//! other machines, of the time of the cores in use: those that the processes are pinned to, else
//! all that they may use. A round above a limit is thrown away and measured again, three times at
//! most; if it is above one each time, the least disturbed report counts, and the row says so.

use std::{io, thread, time::Duration};

use xtask_load::{ClockGaps, CpuTimes, ProcessTimes, clock_gaps, pin};

use super::rows::Row;

/// Disturbance of a measurement, in shares of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Disturbance {
    /// Time of the empty loop in gaps of more than 50 µs, the worst of both cores.
    gaps: f64,
    /// Time that the hypervisor gave to other machines, of that of the cores in use.
    steal: f64,
    /// Time of other processes, of that of the cores in use.
    foreign: f64,
}

impl Disturbance {
    /// The worst figure in parts of its limit.
    pub(crate) fn excess(self) -> f64 {
        let Self {
            gaps,
            steal,
            foreign,
        } = self;
        let shares = [(gaps, GAPS_MAX), (steal, STEAL_MAX), (foreign, FOREIGN_MAX)];
        shares
            .map(|(share, max)| share / max)
            .into_iter()
            .fold(0.0, f64::max)
    }

    pub(crate) fn exceeds_limits(self) -> bool {
        self.excess() > 1.0
    }
}

/// Watch over a measurement.
#[derive(Debug)]
pub(crate) struct DisturbanceWatch {
    cores: [Option<usize>; 2],
    gaps: ClockGaps,
    cpu: Option<CpuReadings>,
}

impl DisturbanceWatch {
    /// Runs the empty loop on these cores and begins to watch.
    pub(crate) fn begin(cores: [Option<usize>; 2]) -> io::Result<Self> {
        Ok(Self {
            cores,
            gaps: gaps_on(cores)?,
            cpu: CpuReadings::read(cores),
        })
    }

    /// Runs the loop again; what there was since the beginning. Processes that were started in
    /// between must have ended, unless the time of `others` is of no interest.
    pub(crate) fn end(self, ignore_others: bool) -> io::Result<Disturbance> {
        let (steal, foreign) = match (self.cpu, CpuReadings::read(self.cores)) {
            (Some(before), Some(after)) => after.steal_and_foreign_since(before),
            _ => (0.0, 0.0),
        };
        Ok(Disturbance {
            gaps: self.gaps.worse(gaps_on(self.cores)?).share,
            steal,
            foreign: if ignore_others { 0.0 } else { foreign },
        })
    }
}

/// Readings of the clocks of CPU time.
#[derive(Debug, Clone, Copy)]
struct CpuReadings {
    /// All cores of the machine.
    machine: CpuTimes,
    /// The cores in use.
    used: CpuTimes,
    own: ProcessTimes,
    all: ProcessTimes,
}

impl CpuReadings {
    fn read(cores: [Option<usize>; 2]) -> Option<Self> {
        let machine = CpuTimes::read()?;
        let used = match cores {
            [Some(server), Some(client)] => CpuTimes::read_of(&[server, client]),
            _ => CpuTimes::read_of(&xtask_load::cores()),
        };
        Some(Self {
            machine,
            // Without times of each core all of them count.
            used: used.unwrap_or(machine),
            own: ProcessTimes::of_this()?,
            all: ProcessTimes::of_all()?,
        })
    }

    /// Shares of the time of the cores in use since `before` that were stolen, and that other
    /// processes took.
    ///
    /// Others are counted in two ways, of which the larger counts: by the clocks of the cores in
    /// use, which miss them where the time of interrupts is part of the time of a process; and
    /// process by process, without what other cores did, which misses those outside of a container.
    fn steal_and_foreign_since(self, before: Self) -> (f64, f64) {
        let used = self.used.since(before.used);
        let elsewhere = self.machine.since(before.machine).threads - used.threads;
        let all = self.all.0 - before.all.0 - elsewhere.max(0.0);
        let own = self.own.0 - before.own.0;
        let others = used.threads.max(all) - own;
        (
            used.steal_share(),
            others.max(0.0) / used.total.max(f64::MIN_POSITIVE),
        )
    }
}

/// Runs the empty loop in a thread for each core, at the same time; the worst gaps.
fn gaps_on(cores: [Option<usize>; 2]) -> io::Result<ClockGaps> {
    // Two threads on one core would see each other.
    let count = xtask_load::cores().len().min(2);
    let threads = cores.into_iter().take(count).map(|core| {
        thread::spawn(move || {
            core.map_or(Ok(()), pin)?;
            Ok(clock_gaps(LOOP_TIME))
        })
    });
    let mut worst = ClockGaps::default();
    for thread in threads.collect::<Vec<_>>() {
        let gaps: io::Result<ClockGaps> = thread.join().expect("an empty loop does not panic");
        worst = worst.worse(gaps?);
    }
    Ok(worst)
}

/// Line below the tables: rounds that were thrown away, and those that count though disturbed.
pub(crate) fn summary(rows: &[Row]) -> String {
    let sum = |of: fn(&Row) -> u32| rows.iter().map(of).sum::<u32>();
    let rounds: usize = rows.iter().map(|row| row.reports.len()).sum();
    format!(
        "disturbed (gaps over {} %, steal over {} % or other processes over {} % of the time): {} \
         rounds thrown away and repeated, {} of {rounds} that count\n",
        100.0 * GAPS_MAX,
        100.0 * STEAL_MAX,
        100.0 * FOREIGN_MAX,
        sum(|row| row.thrown_away),
        sum(|row| row.disturbed),
    )
}

const LOOP_TIME: Duration = Duration::from_millis(20);

/// Interrupts of an idle machine make gaps of a part of this.
const GAPS_MAX: f64 = 0.02;
const STEAL_MAX: f64 = 0.01;
/// The system counts time in ticks: less than this may be rounding.
const FOREIGN_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::row;

    #[test]
    fn each_figure_has_a_limit_of_its_own() {
        let quiet = Disturbance {
            gaps: GAPS_MAX,
            steal: STEAL_MAX,
            foreign: FOREIGN_MAX,
        };
        assert!(!quiet.exceeds_limits());
        for disturbed in [
            Disturbance {
                gaps: 0.03,
                ..quiet
            },
            Disturbance {
                steal: 0.015,
                ..quiet
            },
            Disturbance {
                foreign: 0.075,
                ..quiet
            },
        ] {
            assert!(disturbed.exceeds_limits());
            assert!((disturbed.excess() - 1.5).abs() < 1e-9);
        }
    }

    #[test]
    fn others_are_counted_by_the_way_that_sees_more_of_them() {
        let readings = |threads, all| CpuReadings {
            machine: CpuTimes {
                threads,
                steal: 0.5,
                total: 10.0,
            },
            used: CpuTimes {
                threads,
                steal: 0.5,
                total: 10.0,
            },
            own: ProcessTimes(3.0),
            all: ProcessTimes(all),
        };
        let before = CpuReadings {
            machine: CpuTimes::default(),
            used: CpuTimes::default(),
            own: ProcessTimes(1.0),
            all: ProcessTimes(100.0),
        };
        for (threads, all, foreign) in [(3.0, 102.0, 0.1), (2.0, 104.0, 0.2), (1.0, 90.0, 0.0)] {
            let shares = readings(threads, all).steal_and_foreign_since(before);
            assert_eq!(shares, (0.05, foreign));
        }
    }

    #[test]
    fn work_and_steal_of_other_cores_are_no_disturbance() {
        let times = |threads, steal, total| CpuTimes {
            threads,
            steal,
            total,
        };
        let before = CpuReadings {
            machine: CpuTimes::default(),
            used: CpuTimes::default(),
            own: ProcessTimes(0.0),
            all: ProcessTimes(0.0),
        };
        // Two of sixteen cores for five seconds; others work on the rest.
        let after = |threads, steal| CpuReadings {
            machine: times(30.0 + threads, 2.0 + steal, 80.0),
            used: times(threads, steal, 10.0),
            own: ProcessTimes(8.0),
            all: ProcessTimes(30.0 + threads),
        };
        assert_eq!(after(8.0, 0.0).steal_and_foreign_since(before), (0.0, 0.0));
        assert_eq!(after(9.0, 0.5).steal_and_foreign_since(before), (0.05, 0.1));
    }

    #[test]
    fn own_work_is_no_disturbance_by_others() {
        let watch = DisturbanceWatch::begin([None, None]).unwrap();
        assert_eq!(watch.end(true).unwrap().foreign, 0.0);
    }

    #[test]
    fn the_rows_say_how_many_rounds_were_disturbed() {
        let mut rows = [
            row("rpcnet", (32, 1), 1, 1.0),
            row("rpcnet", (32, 64), 1, 1.0),
        ];
        rows[0].thrown_away = 3;
        rows[1].thrown_away = 1;
        rows[1].disturbed = 1;
        let text = summary(&rows);
        assert!(text.contains("4 rounds thrown away"), "{text}");
        assert!(text.ends_with("1 of 2 that count\n"), "{text}");
    }
}
