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
                |file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok(),
            ),
        }
    }
}

fn field<'a>(cpu_info: &'a str, name: &str) -> Option<&'a str> {
    let fields = cpu_info.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.trim() == name);
    Some(named.next()?.1.trim())
}

/// The least quota of a control group (version 2) and of those that it lies in, in cores. `groups`
/// is `/proc/self/cgroup`, `read` reads a file below the root of all groups.
fn quota(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let quotas = Path::new(group).ancestors().filter_map(|group| {
        let limit = read(&group.join("cpu.max"))?;
        let (quota, period) = limit.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    quotas.reduce(f64::min)
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

    #[test]
    fn the_narrowest_quota_of_all_groups_counts() {
        let files = |file: &Path| match file.to_str()? {
            "a/b/cpu.max" => Some("max 100000\n".to_owned()),
            "a/cpu.max" => Some("150000 100000\n".to_owned()),
            "cpu.max" => Some("400000 100000\n".to_owned()),
            _ => None,
        };
        assert_eq!(quota("1:cpu:/x\n0::/a/b\n", files), Some(1.5));
        assert_eq!(quota("0::/c\n", files), Some(4.0));
        assert_eq!(quota("0::/a\n", |_| None), None);
        assert_eq!(quota("1:cpu:/x\n", files), None);
    }

    #[test]
    fn this_machine_has_cores_and_a_date() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.date.len() == "2026-01-01".len());
    }
}
