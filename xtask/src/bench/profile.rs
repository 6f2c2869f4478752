//! Profile of a run: machine, runtime, wake-up time, and the time that other machines took.

use std::io;

use serde::Serialize;
use serde_json::Value;
use xtask_load::{CpuTimes, Machine, wake_up_time};
use xtask_report::number;

/// Profile of a run, from its beginning.
#[derive(Debug)]
pub(crate) struct RunProfile {
    machine: Machine,
    /// Runtimes of the processes and how they are pinned, for people.
    processes: String,
    wake_up_us: f64,
    cpu_before: Option<CpuTimes>,
}

/// A profile as an object of the JSON.
#[derive(Debug, Serialize)]
struct ProfileJson<'a> {
    #[serde(flatten)]
    machine: &'a Machine,
    processes: &'a str,
    wake_up_us: f64,
    steal_percent: Option<f64>,
}

impl RunProfile {
    /// Reads what the machine is, and measures how long a thread takes to wake up: a part of a
    /// second. `cores` are those that the processes are pinned to.
    pub(crate) fn begin(processes: &str, cores: [Option<usize>; 2]) -> io::Result<Self> {
        Ok(Self {
            machine: Machine::read(),
            processes: processes.to_owned(),
            wake_up_us: wake_up_time(cores)?.as_secs_f64() * 1e6,
            cpu_before: CpuTimes::read(),
        })
    }

    /// Lines above the tables.
    pub(crate) fn text(&self) -> String {
        let machine = &self.machine;
        let kind = match machine.is_virtual {
            Some(true) => "virtual",
            Some(false) => "not virtual",
            None => "perhaps virtual",
        };
        let quota = match machine.quota_cores {
            Some(cores) => format!("at most the time of {} cores", number(cores)),
            None => "no quota".to_owned(),
        };
        format!(
            "{}, {} cores, {kind}, {quota}, {}, {}\n{}; a thread on an idle core wakes up in {} µs",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.date,
            self.processes,
            number(self.wake_up_us)
        )
    }

    /// Line below the tables.
    pub(crate) fn end_text(&self) -> String {
        match self.steal_percent() {
            Some(percent) => format!("steal time in the run: {percent:.2} %"),
            None => "steal time in the run: unknown".to_owned(),
        }
    }

    /// The profile for a document, with the steal time so far.
    pub(crate) fn json(&self) -> Value {
        let profile = ProfileJson {
            machine: &self.machine,
            processes: &self.processes,
            wake_up_us: self.wake_up_us,
            steal_percent: self.steal_percent(),
        };
        serde_json::to_value(profile).expect("texts and numbers")
    }

    /// Share of the time of all cores since the beginning that other machines took.
    fn steal_percent(&self) -> Option<f64> {
        Some(100.0 * CpuTimes::read()?.since(self.cpu_before?).steal_share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> RunProfile {
        RunProfile {
            machine: Machine {
                date: "2026-11-30".to_owned(),
                cpu: "Some CPU".to_owned(),
                cores: 2,
                is_virtual: Some(true),
                kernel: "Linux 6.18".to_owned(),
                quota_cores: Some(1.5),
            },
            processes: "current-thread runtimes, not pinned".to_owned(),
            wake_up_us: 31.4,
            cpu_before: None,
        }
    }

    #[test]
    fn a_table_says_what_it_was_measured_on() {
        let profile = profile();
        assert_eq!(
            profile.text(),
            "Some CPU, 2 cores, virtual, at most the time of 1.50 cores, Linux 6.18, 2026-11-30\n\
             current-thread runtimes, not pinned; a thread on an idle core wakes up in 31.4 µs"
        );
        assert!(profile.end_text().ends_with("unknown"));
    }

    #[test]
    fn the_document_has_the_same() {
        assert_eq!(
            profile().json(),
            serde_json::json!({
                "date": "2026-11-30", "cpu": "Some CPU", "cores": 2, "is_virtual": true,
                "kernel": "Linux 6.18", "quota_cores": 1.5, "wake_up_us": 31.4,
                "processes": "current-thread runtimes, not pinned", "steal_percent": null,
            })
        );
    }

    #[test]
    fn steal_time_counts_from_the_beginning() {
        let profile = RunProfile::begin("", [None, None]).unwrap();
        assert!(profile.wake_up_us > 0.0);
        if cfg!(target_os = "linux") {
            let percent = profile.steal_percent().unwrap();
            assert!((0.0..=100.0).contains(&percent), "{percent}");
        }
    }
}
