//! Machine that a benchmark runs on: what decides over its figures beside the code.

use std::{fs, path::Path};

use rustix::system::uname;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::system::cores;

/// Properties of the machine that do not change in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Day of the run, UTC.
    pub date: String,
    /// Name of the processor, or `unknown`.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether a hypervisor gives the machine its cores; `None` where the system does not tell.
    pub is_virtual: Option<bool>,
    /// Name and release of the system's kernel.
    pub kernel: String,
    /// Cores' time that the control group of the process may take; `None` if it may take all.
    pub quota_cores: Option<f64>,
}

impl Machine {
    /// The machine that this runs on.
    pub fn read() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = uname();
        Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            cpu: field(&cpu_info, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: cores().len(),
            is_virtual: field(&cpu_info, "flags")
                .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: format!(
                "{} {}",
                kernel.sysname().to_string_lossy(),
                kernel.release().to_string_lossy()
            ),
            quota_cores: quota(
                &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
                |file| fs::read_to_string(file).ok(),
            ),
        }
    }
}

fn field<'a>(cpu_info: &'a str, name: &str) -> Option<&'a str> {
    let fields = cpu_info.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.trim() == name);
    Some(named.next()?.1.trim())
}

/// The least quota of the control groups (versions 1 and 2) of the process and of those that they
/// lie in, in cores. `groups` is `/proc/self/cgroup`, `read` reads a file.
fn quota(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let lines = groups.lines().filter_map(|line| {
        let (_, group) = line.split_once(':')?;
        group.split_once(':')
    });
    let quotas = lines.flat_map(|(controllers, group)| {
        let group = Path::new(group.trim_start_matches('/')).ancestors();
        let read = &read;
        group.filter_map(move |group| quota_of_group(controllers, group, read))
    });
    quotas.reduce(f64::min)
}

/// Quota of one group below the root of its hierarchy; `None` if the hierarchy is not that of CPU
/// time, or the group has no quota.
fn quota_of_group(
    controllers: &str,
    group: &Path,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<f64> {
    let (quota, period) = if controllers.is_empty() {
        let limit = read(&Path::new("/sys/fs/cgroup").join(group).join("cpu.max"))?;
        let (quota, period) = limit.split_once(' ')?;
        (quota.to_owned(), period.to_owned())
    } else if controllers.split(',').any(|it| it == "cpu") {
        let group = Path::new("/sys/fs/cgroup/cpu").join(group);
        let read = |file| read(&group.join(file));
        (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
    } else {
        return None;
    };
    // Without a quota it is `max`, and -1 in version 1.
    let quota = quota.trim().parse::<u64>().ok()?;
    let period = period.trim().parse::<u64>().ok()?;
    Some(quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_first_core_are_read() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu hypervisor\n\
                    processor\t: 1\nmodel name\t: Other\n";
        assert_eq!(field(info, "model name"), Some("Some CPU @ 3 GHz"));
        assert_eq!(field(info, "flags"), Some("fpu hypervisor"));
        assert_eq!(field(info, "Features"), None);
    }

    /// Reads files of these contents below the root of all groups.
    fn quota_of(groups: &str, files: &[(&str, &str)]) -> Option<f64> {
        quota(groups, |file| {
            let file = file.strip_prefix("/sys/fs/cgroup").ok()?;
            let found = files.iter().find(|(name, _)| Path::new(name) == file);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_narrowest_quota_of_all_groups_counts() {
        let files = [
            ("a/b/cpu.max", "max 100000\n"),
            ("a/cpu.max", "150000 100000\n"),
            ("cpu.max", "400000 100000\n"),
        ];
        assert_eq!(quota_of("1:cpu:/x\n0::/a/b\n", &files), Some(1.5));
        assert_eq!(quota_of("0::/c\n", &files), Some(4.0));
        assert_eq!(quota_of("0::/a\n", &[]), None);
        assert_eq!(quota_of("1:cpu:/x\n", &files), None);
    }

    #[test]
    fn quotas_of_version_1_are_read_from_the_hierarchy_of_cpu_time() {
        let files = [
            ("cpu/a/b/cpu.cfs_quota_us", "-1\n"),
            ("cpu/a/b/cpu.cfs_period_us", "100000\n"),
            ("cpu/a/cpu.cfs_quota_us", "75000\n"),
            ("cpu/a/cpu.cfs_period_us", "50000\n"),
        ];
        assert_eq!(
            quota_of("5:memory:/a\n4:cpu,cpuacct:/a/b\n", &files),
            Some(1.5)
        );
        assert_eq!(quota_of("4:cpuacct:/a/b\n3:cpuset:/a\n", &files), None);
        assert_eq!(quota_of("nonsense\n4:cpu:/\n", &files), None);
    }

    #[test]
    fn this_machine_has_cores_and_a_date() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.date.len() == "2026-01-01".len());
    }
}
