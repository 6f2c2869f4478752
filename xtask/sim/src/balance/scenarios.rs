//! Fault scenarios of the workers, in which strategies are compared.

use std::time::Duration;

use rpcnet_balance::{
    health::HealthConfig,
    sim::{ClientPolicy, FleetScenario, Load, ServiceTime, SimMethod, SimWorker, WorkerChange},
};

use crate::options::Extent;

/// Scenario: workers and load, faults, and the calls that are measured. Times are in seconds.
#[derive(Debug)]
pub(super) struct BalanceScenario {
    pub(super) name: String,
    pub(super) description: &'static str,
    pub(super) fleet: FleetScenario,
    /// Calls that are looked at began in this time.
    pub(super) measured_s: (f64, f64),
    /// Time before the fault.
    pub(super) baseline_s: Option<(f64, f64)>,
    /// End of the fault, from which recovery is measured.
    pub(super) recovery_from_s: Option<f64>,
    /// Faulty worker, and the time from which its share of attempts is counted.
    pub(super) faulty_worker: Option<(usize, f64)>,
    /// The method whose calls are looked at, if there are others.
    pub(super) method: Option<usize>,
    /// Load in relation to the capacity, where that is what is varied.
    pub(super) load: Option<f64>,
    pub(super) capacity_per_s: f64,
    /// Approximate number of calls.
    pub(super) calls: f64,
}

impl BalanceScenario {
    /// Scenario of which all calls are measured.
    fn new(name: impl Into<String>, fleet: FleetScenario, calls: f64) -> Self {
        Self {
            name: name.into(),
            description: "",
            measured_s: (0.0, f64::MAX),
            baseline_s: None,
            recovery_from_s: None,
            faulty_worker: None,
            method: None,
            load: None,
            capacity_per_s: fleet.capacity_per_s(),
            fleet,
            calls,
        }
    }

    fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The same with calls measured from then on.
    fn measured_from(mut self, from: f64) -> Self {
        self.measured_s.0 = from;
        self
    }

    /// The same with a fault that begins then: calls are measured from then on, and compared with
    /// those before.
    fn with_fault_at(mut self, at: f64) -> Self {
        self.baseline_s = Some((1.0, at));
        self.measured_from(at)
    }

    fn recovering_from(mut self, at: f64) -> Self {
        self.recovery_from_s = Some(at);
        self
    }

    fn with_faulty_worker(mut self, worker: usize, from: f64) -> Self {
        self.faulty_worker = Some((worker, from));
        self
    }

    fn with_change(
        mut self,
        at: f64,
        workers: impl IntoIterator<Item = usize>,
        change: WorkerChange,
    ) -> Self {
        for worker in workers {
            self.fleet = self.fleet.with_change(seconds(at), worker, change);
        }
        self
    }

    fn with_policy(mut self, policy: ClientPolicy) -> Self {
        self.fleet = self.fleet.with_policy(policy);
        self
    }

    /// Three workers are 4 times slower at any time, for 3 s each, another one each second.
    fn with_antagonists(mut self, from: u32, until: u32) -> Self {
        let workers = self.fleet.workers();
        for (nth, at) in (from..until).map(f64::from).enumerate() {
            let worker = [3 * nth % workers];
            self = self
                .with_change(at, worker, WorkerChange::Slowdown(4.0))
                .with_change(at + 3.0, worker, WorkerChange::Slowdown(1.0));
        }
        self
    }
}

/// Scenario of an open load, in relation to what the workers can serve, of which the calls after
/// the first second are measured.
fn open(
    name: impl Into<String>,
    workers: Vec<SimWorker>,
    clients: usize,
    load: f64,
    duration: f64,
) -> BalanceScenario {
    let idle = FleetScenario::new(workers.clone(), Load::open(0.0));
    let per_s = load * idle.capacity_per_s();
    let fleet = FleetScenario::new(workers, Load::open(per_s))
        .with_clients(clients)
        .with_duration(seconds(duration));
    BalanceScenario {
        measured_s: (1.0, duration),
        ..BalanceScenario::new(name, fleet, per_s * duration)
    }
}

/// Scenarios whose name contains the text that was asked for, else all.
pub(super) fn select(
    extent: Extent,
    part: Option<&str>,
    names: &[String],
) -> Result<Vec<BalanceScenario>, String> {
    let mut chosen = all(extent);
    let known: Vec<_> = chosen.iter().map(|it| it.name.clone()).collect();
    let there_are = || format!("there are: {}", known.join(", "));
    let is_known = |name: &&String| known.contains(name) || *name == "load";
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(format!(
            "no scenario is called {unknown:?}; {}",
            there_are()
        ));
    }
    let is_named = |scenario: &str, name: &str| {
        scenario == name || (name == "load" && scenario.starts_with("load-"))
    };
    chosen.retain(|it| {
        let named = names.is_empty() || names.iter().any(|name| is_named(&it.name, name));
        named && part.is_none_or(|part| it.name.contains(part))
    });
    match chosen.is_empty() {
        true => Err(format!("no such scenario; {}", there_are())),
        false => Ok(chosen),
    }
}

fn all(extent: Extent) -> Vec<BalanceScenario> {
    let loads: &[f64] = extent.pick(
        &[0.75, 1.3],
        &[0.5, 0.6, 0.7, 0.75, 0.85, 0.93, 1.03, 1.15, 1.3, 1.5, 1.74],
    );
    let mut all = vec![tower()];
    all.extend(steady_fleets());
    all.extend(faulty_workers());
    all.extend(changing_fleets());
    all.extend(loads.iter().map(|load| under_load(*load)));
    all
}

/// The demo of the `tower` crate's balancers, as its pull request 76 describes it.
fn tower() -> BalanceScenario {
    let max_ms = [1, 10, 10, 10, 10, 100, 100, 100, 100, 1_000];
    let worker =
        |max: u64| SimWorker::new(ServiceTime::Uniform { max: ms(max) }).with_concurrency(50);
    let calls = 50_000;
    let fleet = FleetScenario::new(max_ms.map(worker).to_vec(), Load::closed(50, calls))
        .with_network_delay(Duration::ZERO)
        .with_policy(ClientPolicy::new().with_deadline(seconds(60.0)));
    BalanceScenario::new("tower", fleet, calls as f64)
        .about("10 workers that take up to 1, 4 x 10, 4 x 100 and 1,000 ms; 50 calls in flight")
        .with_faulty_worker(9, 0.0)
}

/// Nothing changes.
fn steady_fleets() -> [BalanceScenario; 4] {
    let bimodal = SimWorker::new(ServiceTime::Bimodal {
        fast: ms(6),
        slow: ms(206),
        slow_fraction: 0.02,
    });
    let bimodal = vec![bimodal.with_concurrency(8); 10];
    let large = worker().with_concurrency(16).with_weight(4.0);
    let small = worker().with_concurrency(4);
    let uneven = [vec![large; 5], vec![small; 5]].concat();
    [
        open("steady", workers(10), 1, 0.7, 15.0)
            .about("10 workers, all alike, at 0.7 of their capacity"),
        open("long-tail", bimodal, 4, 0.7, 15.0)
            .about("10 workers at 0.7; one call of fifty takes 206 ms, the others 6"),
        open("herd", workers(10), 50, 0.85, 15.0)
            .about("50 clients that know nothing of each other, 10 workers at 0.85"),
        open("uneven", uneven, 4, 0.8, 15.0)
            .about("5 workers of weight 4 and 5 of weight 1 at 0.8"),
    ]
}

/// One worker is faulty, or some are for a short time each.
fn faulty_workers() -> [BalanceScenario; 9] {
    let small = worker().with_concurrency(1).with_queue(0, Duration::ZERO);
    let with_small = [workers(9), vec![small]].concat();
    let no_ejection = ClientPolicy::new().with_health(HealthConfig::none());
    [
        open("straggler", workers(10), 4, 0.6, 20.0)
            .about("10 workers at 0.6; at 8 s one becomes 100 times slower")
            .with_fault_at(8.0)
            .with_change(8.0, [3], WorkerChange::Slowdown(100.0))
            .with_faulty_worker(3, 9.0),
        open("antagonists", workers(10), 4, 0.65, 20.0)
            .about("10 workers at 0.65; from 5 s on three are 4 times slower, each second another")
            .with_fault_at(5.0)
            .with_antagonists(5, 17),
        open("fast-fail", workers(10), 4, 0.6, 20.0)
            .about("10 workers at 0.6; from 5 s on one fails each call within 0.1 ms; no ejection")
            .with_policy(no_ejection)
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Fail)
            .with_faulty_worker(3, 6.0),
        open("refuser", with_small, 4, 0.6, 15.0)
            .about(
                "9 workers and one that takes a single call at a time and rejects what is more, \
                 at 0.6",
            )
            .with_faulty_worker(9, 1.0),
        open("old-version", workers(5), 4, 0.6, 20.0)
            .about(
                "5 workers at 0.6; from 5 s on one is of an older version and rejects each call \
                 within 0.1 ms",
            )
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Reject)
            .with_faulty_worker(3, 6.0),
        open("moved", workers(10), 4, 0.6, 20.0)
            .about("10 workers at 0.6; at 5 s one moves to another address, which is known at 8 s")
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Move)
            .recovering_from(8.0),
        open("underreporter", workers(10), 4, 0.6, 20.0)
            .about(
                "10 workers at 0.6; at 5 s one becomes 4 times slower and reports that it has \
                 nothing to do",
            )
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Slowdown(4.0))
            .with_change(5.0, [3], WorkerChange::Underreport)
            .with_faulty_worker(3, 6.0),
        slow_method(),
        open("hang", workers(10), 4, 0.6, 20.0)
            .about("10 workers at 0.6; one takes calls and answers none from 5 to 15 s")
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Hang)
            .with_change(15.0, [3], WorkerChange::Recover)
            .with_faulty_worker(3, 6.0),
    ]
}

fn slow_method() -> BalanceScenario {
    let latency = ServiceTime::LogNormal {
        mean: ms(20),
        sigma: 0.3,
    };
    let workers = vec![SimWorker::new(latency).with_concurrency(8); 5];
    let mut scenario = open("slow-method", workers, 1, 0.6, 40.0)
        .about(
            "5 workers at 0.6; a call each 2 s takes 3 s, the others, which are looked at, 20 ms; \
             no retries",
        )
        .with_policy(ClientPolicy::new().with_attempts_max(1))
        .measured_from(3.0);
    // One each 2 s.
    let rare = SimMethod::new(1.0 / 2_400.0, ServiceTime::Fixed(ms(3_000)));
    scenario.fleet = scenario.fleet.with_method(rare);
    scenario.method = Some(0);
    scenario
}

/// Workers come and go, or the load changes.
fn changing_fleets() -> [BalanceScenario; 6] {
    let cold = |warm_after| vec![worker().with_cold_start(seconds(warm_after), 5.0); 10];
    let new = worker().with_cold_start(seconds(5.0), 20.0).absent();
    let with_new = |new: SimWorker| [workers(8), vec![new; 4]].concat();
    [
        open("newcomers", with_new(new), 4, 0.75, 20.0)
            .about(
                "8 workers at 0.75; at 5 s 4 more come, 20 times slower at first, warm after 5 s",
            )
            .with_fault_at(5.0)
            .with_change(5.0, 8..12, WorkerChange::Start),
        open("relief", with_new(worker().absent()), 4, 1.1, 20.0)
            .about("8 workers at 1.1; at 8 s 4 more come, as good as the others from the start")
            .measured_from(8.5)
            .with_change(8.0, 8..12, WorkerChange::Start),
        overload(),
        open("crash", cold(2.0), 4, 0.6, 20.0)
            .about("10 workers at 0.6; one is killed at 5 s, and back at 12 s")
            .with_fault_at(5.0)
            .with_change(5.0, [3], WorkerChange::Crash)
            .with_change(12.0, [3], WorkerChange::Start)
            .recovering_from(12.0),
        open("mass-restart", cold(3.0), 4, 0.45, 25.0)
            .about("10 workers at 0.45; half of them are killed at 5 s, and back at 11 s, cold")
            .with_fault_at(5.0)
            .with_change(5.0, 0..5, WorkerChange::Crash)
            .with_change(11.0, 0..5, WorkerChange::Start)
            .recovering_from(11.0),
        (0..10).fold(
            open("rolling-restart", cold(2.0), 4, 0.6, 45.0)
                .about("10 workers at 0.6; one after the other drains, goes and comes back cold")
                .with_fault_at(4.0),
            |scenario, worker| {
                let at = 4.0 + 4.0 * worker as f64;
                scenario
                    .with_change(at, [worker], WorkerChange::Drain)
                    .with_change(at + 2.0, [worker], WorkerChange::Crash)
                    .with_change(at + 2.5, [worker], WorkerChange::Start)
            },
        ),
    ]
}

fn overload() -> BalanceScenario {
    let capacity = FleetScenario::new(workers(10), Load::open(0.0)).capacity_per_s();
    let load = Load::open(0.7 * capacity)
        .then(seconds(5.0), 1.3 * capacity)
        .then(seconds(15.0), 0.7 * capacity);
    let fleet = FleetScenario::new(workers(10), load)
        .with_clients(4)
        .with_duration(seconds(25.0));
    let mut scenario = BalanceScenario::new("overload", fleet, 23.5 * capacity)
        .about("10 workers at 0.7, from 5 to 15 s at 1.3, at 0.7 again")
        .with_fault_at(5.0)
        .recovering_from(15.0);
    scenario.measured_s.1 = 15.0;
    scenario
}

/// Scenario of the figure: load varied beside antagonists.
fn under_load(load: f64) -> BalanceScenario {
    // Of what the antagonists leave.
    let left = (7.0 + 3.0 / 4.0) / 10.0;
    let mut scenario = open(format!("load-{load:.2}"), workers(10), 4, load * left, 12.0)
        .about("10 workers, three of them 4 times slower, each second another; load varied")
        .measured_from(2.0)
        .with_antagonists(0, 12);
    scenario.load = Some(load);
    scenario.capacity_per_s *= left;
    scenario
}

/// Workers that are all alike.
fn workers(count: usize) -> Vec<SimWorker> {
    vec![worker(); count]
}

/// Serves 800 a second.
const fn worker() -> SimWorker {
    SimWorker::new(ServiceTime::Exponential { mean: ms(10) }).with_concurrency(8)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_selected_by_name() {
        let names = |part, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
            let chosen = select(Extent::Quick, part, &names)?;
            Ok::<_, String>(chosen.into_iter().map(|it| it.name).collect::<Vec<_>>())
        };
        assert_eq!(names(None, &["hang", "crash"]).unwrap(), ["hang", "crash"]);
        assert_eq!(names(None, &["load"]).unwrap(), ["load-0.75", "load-1.30"]);
        assert_eq!(names(Some("restart"), &[]).unwrap().len(), 2);
        assert!(
            names(None, &["none"])
                .unwrap_err()
                .contains("tower, steady")
        );
        assert!(names(Some("none"), &[]).is_err());
    }
}
