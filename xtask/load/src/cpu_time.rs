//! CPU time of the machine and of a process, from `/proc`.

use std::{fs, iter::Sum};

use rustix::param::clock_ticks_per_second;

/// CPU time of cores together since the machine started, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTimes {
    /// Time of threads: user and system, without interrupts.
    pub threads: f64,
    /// Time that the hypervisor gave to other machines while a thread wanted to run.
    pub steal: f64,
    /// Time of all kinds, idle time among it.
    pub total: f64,
}

impl CpuTimes {
    /// Times of all cores so far; `None` where the system does not tell.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, "cpu")
    }

    /// Times of these cores so far; `None` where the system does not tell that of each.
    pub fn read_of(cores: &[usize]) -> Option<Self> {
        Self::parse_cores(&fs::read_to_string("/proc/stat").ok()?, cores)
    }

    fn parse_cores(stat: &str, cores: &[usize]) -> Option<Self> {
        let times = cores
            .iter()
            .map(|core| Self::parse(stat, &format!("cpu{core}")));
        times.sum()
    }

    fn parse(stat: &str, name: &str) -> Option<Self> {
        let lines = stat.lines().filter_map(|line| line.split_once(' '));
        let (_, cpu) = lines.into_iter().find(|(field, _)| *field == name)?;
        let ticks: Vec<f64> = cpu
            .split_whitespace()
            .map_while(|it| it.parse().ok())
            .collect();
        // Guests' time, which follows, is part of that of users.
        let &[user, nice, system, idle, io_wait, irq, soft_irq, steal, ..] = &ticks[..] else {
            return None;
        };
        let seconds = |ticks: f64| ticks / clock_ticks_per_second() as f64;
        Some(Self {
            threads: seconds(user + nice + system),
            steal: seconds(steal),
            total: seconds(user + nice + system + idle + io_wait + irq + soft_irq + steal),
        })
    }

    /// Times since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            threads: self.threads - earlier.threads,
            steal: self.steal - earlier.steal,
            total: self.total - earlier.total,
        }
    }

    /// Share of the time that was stolen.
    pub fn steal_share(self) -> f64 {
        self.steal / self.total.max(f64::MIN_POSITIVE)
    }
}

impl Sum for CpuTimes {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |sum, times| Self {
            threads: sum.threads + times.threads,
            steal: sum.steal + times.steal,
            total: sum.total + times.total,
        })
    }
}

/// CPU time of processes and of their children that have ended, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessTimes(pub f64);

impl ProcessTimes {
    /// Time of this process so far; `None` where the system does not tell.
    pub fn of_this() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Time of all processes that this one can see, which does not get less when one ends: its
    /// parent has it then.
    pub fn of_all() -> Option<Self> {
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let times = processes.filter_map(|entry| {
            let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            // One that has ended meanwhile has no file.
            let stat = is_process.then(|| fs::read_to_string(entry.path().join("stat")))?;
            Self::parse(&stat.ok()?)
        });
        Some(Self(times.map(|Self(seconds)| seconds).sum()))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The program's name, in brackets, may have spaces and brackets in it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let times = fields.get(USER_TIME..USER_TIME + 4)?;
        let ticks = times.iter().map(|ticks| ticks.parse::<f64>());
        let ticks = ticks.sum::<Result<f64, _>>().ok()?;
        Some(Self(ticks / clock_ticks_per_second() as f64))
    }
}

/// Place of the user time after the program's name; the system time and both times of children
/// follow.
const USER_TIME: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_sums_of_fields() {
        let hertz = clock_ticks_per_second() as f64;
        let stat = "cpu  10 20 30 400 5 6 7 22 9 1\ncpu0 1 2 3\n";
        let times = CpuTimes::parse(stat, "cpu").unwrap();
        let ticks = |seconds: f64| (seconds * hertz).round();
        assert_eq!(ticks(times.threads), 60.0);
        assert_eq!((ticks(times.steal), ticks(times.total)), (22.0, 500.0));
        assert!((times.since(CpuTimes::default()).steal_share() - 0.044).abs() < 1e-9);
        assert_eq!(CpuTimes::parse("cpu  10 20", "cpu"), None);
    }

    #[test]
    fn times_of_some_cores_are_those_of_their_lines() {
        let hertz = clock_ticks_per_second() as f64;
        let stat = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 0 0 9 0 0 0 0\ncpu1 2 0 0 0 0 0 0 3\n\
                    cpu10 4 0 0 0 0 0 0 5\n";
        let times = CpuTimes::parse_cores(stat, &[0, 10]).unwrap();
        let ticks = [times.threads, times.steal, times.total].map(|it| (it * hertz).round());
        assert_eq!(ticks, [5.0, 5.0, 19.0]);
        assert_eq!(CpuTimes::parse_cores(stat, &[0, 2]), None);
    }

    #[test]
    fn children_count_and_names_are_skipped() {
        let hertz = clock_ticks_per_second() as f64;
        let stat = "7 (a (b) c) R 1 7 7 0 -1 4194560 1 0 0 0 100 20 3 4 20 0 1 0";
        let ProcessTimes(seconds) = ProcessTimes::parse(stat).unwrap();
        assert_eq!((seconds * hertz).round(), 127.0);
        assert_eq!(ProcessTimes::parse("7 (a) R 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_both() {
        assert!(CpuTimes::read().unwrap().total > 0.0);
        let ProcessTimes(own) = ProcessTimes::of_this().unwrap();
        let ProcessTimes(all) = ProcessTimes::of_all().unwrap();
        assert!(all >= own);
    }
}
