//! Properties of the machine that decide whether spinning pays: what a wake-up costs, and whether
//! the cores are shared with others.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Measured properties of the machine. The whole process shares one value.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Nanoseconds until a sleeping thread runs; 0 while it is not known.
    wake_up_ns: AtomicU64,
    /// [`CoreSharing`] at the last measurement.
    sharing: AtomicU8,
    /// Times of the cores at the last measurement.
    last_times: Mutex<CpuTimes>,
    /// Nanoseconds since [`EPOCH`] at which it is measured again.
    next_at_ns: AtomicU64,
}

/// Whether spinning takes time from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum CoreSharing {
    None,
    /// The process may use a part of the cores' time only.
    Quota,
    /// The host of this virtual machine gives a part of it to others.
    Stolen,
}

static MACHINE: Machine = Machine {
    wake_up_ns: AtomicU64::new(0),
    sharing: AtomicU8::new(CoreSharing::None as u8),
    last_times: Mutex::new(CpuTimes {
        busy: 0,
        stolen: 0,
        idle: 0,
    }),
    next_at_ns: AtomicU64::new(0),
};

static EPOCH: OnceLock<Instant> = OnceLock::new();

/// The machine as last measured. Measures in a thread of its own, at the first call and then at
/// most once a minute.
pub(super) fn machine() -> &'static Machine {
    let now = u64::try_from(EPOCH.get_or_init(Instant::now).elapsed().as_nanos());
    let now = now.unwrap_or(u64::MAX);
    let due = MACHINE.next_at_ns.load(Relaxed);
    let next = now.saturating_add(INTERVAL_NS);
    if now >= due
        && (MACHINE
            .next_at_ns
            .compare_exchange(due, next, Relaxed, Relaxed))
        .is_ok()
    {
        let measuring = thread::Builder::new().name("rpcnet-measure".into());
        // Without a thread the values stay as they are.
        let _ = measuring.spawn(|| MACHINE.measure());
    }
    &MACHINE
}

impl Machine {
    /// Time until a sleeping thread runs.
    pub(super) fn wake_up(&self) -> Duration {
        match self.wake_up_ns.load(Relaxed) {
            0 => WAKE_UP_UNKNOWN,
            nanos => Duration::from_nanos(nanos),
        }
    }

    pub(super) fn core_sharing(&self) -> CoreSharing {
        match self.sharing.load(Relaxed) {
            QUOTA => CoreSharing::Quota,
            STOLEN => CoreSharing::Stolen,
            _ => CoreSharing::None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_wake_up(wake_up: Duration) -> Self {
        let nanos = u64::try_from(wake_up.as_nanos()).expect("short enough");
        Self {
            wake_up_ns: AtomicU64::new(nanos),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(super) fn set_core_sharing(&self, sharing: CoreSharing) {
        self.sharing.store(sharing as u8, Relaxed);
    }

    fn measure(&self) {
        // Without a thread to wake the value stays as it is.
        if let Some(wake_up) = wake_up_cost() {
            let nanos = u64::try_from(wake_up.as_nanos()).unwrap_or(u64::MAX);
            self.wake_up_ns.store(nanos.max(1), Relaxed);
        }
        let times = CpuTimes::read().unwrap_or_default();
        let last = std::mem::replace(&mut *self.last_times.lock(), times);
        let sharing = match has_quota() {
            true => CoreSharing::Quota,
            false if times.since(last).is_stolen() => CoreSharing::Stolen,
            false => CoreSharing::None,
        };
        if self.sharing.swap(sharing as u8, Relaxed) != sharing as u8 {
            sharing.log();
        }
    }
}

impl CoreSharing {
    /// Logs what it means for busy polling, when it has changed.
    fn log(self) {
        match self {
            Self::None => tracing::info!("busy polling on again"),
            Self::Quota => tracing::info!("busy polling off: a quota of CPU time (cgroups)"),
            Self::Stolen => tracing::info!("busy polling off: the host takes CPU time (steal)"),
        }
    }
}

/// Lower quartile of the times from the wake-up of a thread that sleeps until it runs: the others
/// have waits for a busy core in them.
fn wake_up_cost() -> Option<Duration> {
    let mut costs = [Duration::ZERO; WAKE_UPS];
    let (wake, woken) = std::sync::mpsc::sync_channel::<Instant>(0);
    let (report, costs_seen) = std::sync::mpsc::sync_channel(0);
    thread::scope(|scope| {
        let sleeper = thread::Builder::new().spawn_scoped(scope, move || {
            while let Ok(at) = woken.recv() {
                if report.send(at.elapsed()).is_err() {
                    break;
                }
            }
        });
        sleeper.ok()?;
        for cost in &mut costs {
            // Long enough that the core of the thread goes idle.
            thread::sleep(Duration::from_micros(300));
            if wake.send(Instant::now()).is_err() {
                break;
            }
            *cost = costs_seen.recv().unwrap_or_default();
        }
        drop(wake);
        costs.sort_unstable();
        Some(costs[WAKE_UPS / 4])
    })
}

/// Whether the process or a group that it belongs to has a quota of CPU time (cgroup v2 or v1):
/// what it spins, it cannot use.
fn has_quota() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    quota_files(&groups)
        .iter()
        .any(|file| fs::read_to_string(file).is_ok_and(|text| is_quota(&text)))
}

/// Files that may contain a quota, by `/proc/self/cgroup`: those of each group from that of the
/// process to the root of the mount, which in a container is often the group of the process.
fn quota_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "cpu.max"),
            _ if controllers.split(',').any(|one| one == "cpu") => {
                ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|one| Path::new(mount).join(one).join(file)),
        );
    }
    files
}

/// Whether `cpu.max` or `cpu.cfs_quota_us` contain a quota: the first word is a number.
fn is_quota(text: &str) -> bool {
    let first = text.split_whitespace().next();
    first.is_some_and(|quota| quota.parse::<u64>().is_ok())
}

/// Times of all cores since the start of the system, in ticks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    stolen: u64,
    /// Times in which they had nothing to do.
    idle: u64,
}

impl CpuTimes {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the line of all cores: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Vec<u64> = line
            .split_whitespace()
            .map_while(|time| time.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = times[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        let idle = idle + iowait;
        Some(Self { busy, stolen, idle })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            stolen: self.stolen.saturating_sub(earlier.stolen),
            idle: self.idle.saturating_sub(earlier.idle),
        }
    }

    /// Whether others took a good part of the time in which cores had something to do. Where they
    /// had little to do, a few ticks are a good part of it, and say nothing: what others took has
    /// to be a part of all time too.
    fn is_stolen(self) -> bool {
        let wanted = self.busy.saturating_add(self.stolen);
        let all = wanted.saturating_add(self.idle);
        self.stolen > wanted / STOLEN_DIVISOR && self.stolen > all / STOLEN_OF_ALL_DIVISOR
    }
}

const QUOTA: u8 = CoreSharing::Quota as u8;
const STOLEN: u8 = CoreSharing::Stolen as u8;

/// Time between two measurements.
const INTERVAL_NS: u64 = 60_000_000_000;

const WAKE_UPS: usize = 15;

/// Cost of a wake-up before it was measured: that of most machines is below.
const WAKE_UP_UNKNOWN: Duration = Duration::from_micros(50);

/// A tenth of the busy time is too much.
const STOLEN_DIVISOR: u64 = 10;

/// Less than a hundredth of all time says nothing.
const STOLEN_OF_ALL_DIVISOR: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_may_be_that_of_any_group_above() {
        let files = quota_files("0::/system.slice/video.service\n");
        let expected = [
            "/sys/fs/cgroup/system.slice/video.service/cpu.max",
            "/sys/fs/cgroup/system.slice/cpu.max",
            "/sys/fs/cgroup/cpu.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        let files = quota_files("5:memory:/a\n4:cpu,cpuacct:/a\nnonsense\n0::/\n");
        let expected = [
            "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        assert!(quota_files("").is_empty());
    }

    #[test]
    fn a_quota_is_a_number() {
        for (text, expected) in [
            ("max 100000\n", false),
            ("200000 100000\n", true),
            ("-1\n", false),
            ("50000\n", true),
            ("", false),
        ] {
            assert_eq!(is_quota(text), expected, "{text:?}");
        }
    }

    /// Times of cores that had nothing to do for some ticks, and something for 900.
    fn times(idle: u64, stolen: u64) -> CpuTimes {
        let stat = format!("cpu  500 0 300 {idle} 7 50 50 {stolen} 0 0\ncpu0 1 2 3\n");
        CpuTimes::parse(&stat).expect("times")
    }

    #[test]
    fn stolen_time_is_held_against_busy_time() {
        assert_eq!(
            times(3, 9),
            CpuTimes {
                busy: 900,
                stolen: 9,
                idle: 10
            }
        );
        assert!(!times(0, 100).is_stolen() && times(0, 101).is_stolen());
        assert!(!times(0, 200).since(times(0, 200)).is_stolen());
        assert_eq!(CpuTimes::parse("cpu  1 2 3\n"), None);
        assert_eq!(CpuTimes::parse(""), None);
    }

    #[test]
    fn a_few_stolen_ticks_of_an_idle_machine_say_nothing() {
        let idle = times(6_000, 0);
        let ticks = |stolen| CpuTimes {
            busy: 5,
            stolen,
            idle: 6_000,
        };
        assert!(!ticks(1).is_stolen() && !ticks(60).is_stolen());
        assert!(ticks(61).is_stolen(), "more than a hundredth of all time");
        assert!(!idle.since(idle).is_stolen());
    }

    #[test]
    fn a_measurement_knows_the_cost_of_a_wake_up() {
        let machine = Machine::default();
        assert_eq!(machine.wake_up(), WAKE_UP_UNKNOWN);
        machine.measure();
        let cost = machine.wake_up();
        assert_ne!(cost, WAKE_UP_UNKNOWN);
        assert!(
            cost > Duration::ZERO && cost < Duration::from_secs(10),
            "{cost:?}"
        );
    }
}
