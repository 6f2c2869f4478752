//! Fault scenarios of the workers, in which strategies are compared.

use std::time::Duration;

use rpcnet_balance::{
    health::HealthConfig,
    sim::{ClientPolicy, FleetScenario, Load, Method, ServiceTime, SimWorker, WorkerChange},
};

use crate::options::Extent;

/// Scenario: workers and load, faults, and the calls that are measured.
#[derive(Debug)]
pub(super) struct BalanceScenario {
    pub(super) name: String,
    /// Description for readers.
    pub(super) description: &'static str,
    pub(super) sim_scenario: FleetScenario,
    /// Calls that are looked at began in this time, in seconds.
    pub(super) measured_s: (f64, f64),
    /// Time before the fault, in seconds.
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
    calls: f64,
}

impl BalanceScenario {
    fn new(name: impl Into<String>, what: &'static str, plan: FleetScenario, calls: f64) -> Self {
        Self {
            name: name.into(),
            description: what,
            measured_s: (0.0, f64::MAX),
            baseline_s: None,
            recovery_from_s: None,
            faulty_worker: None,
            method: None,
            load: None,
            capacity_per_s: plan.capacity_per_s(),
            sim_scenario: plan,
            calls,
        }
    }

    fn measured_between(mut self, from: f64, until: f64) -> Self {
        self.measured_s = (from, until);
        self
    }

    /// The rest of the day is compared with the time from the first second until then.
    fn with_baseline_until(mut self, until: f64) -> Self {
        self.baseline_s = Some((1.0, until));
        self
    }

    fn recovering_from(mut self, at: f64) -> Self {
        self.recovery_from_s = Some(at);
        self
    }

    fn with_faulty_worker(mut self, worker: usize, from: f64) -> Self {
        self.faulty_worker = Some((worker, from));
        self
    }

    fn measuring_method(mut self, method: usize) -> Self {
        self.method = Some(method);
        self
    }

    /// Approximate number of calls.
    pub(super) fn calls(&self) -> f64 {
        self.calls
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
    let is_load = |name: &str| name.starts_with("load-");
    if let Some(unknown) = names
        .iter()
        .find(|name| !known.contains(name) && *name != "load")
    {
        return Err(format!(
            "no scenario is called {unknown:?}; there are: {}",
            known.join(", ")
        ));
    }
    chosen.retain(|it| {
        let named = names.contains(&it.name)
            || (is_load(&it.name) && names.iter().any(|name| name == "load"));
        (names.is_empty() || named) && part.is_none_or(|part| it.name.contains(part))
    });
    if chosen.is_empty() {
        return Err(format!("no such scenario; there are: {}", known.join(", ")));
    }
    Ok(chosen)
}

fn all(extent: Extent) -> Vec<BalanceScenario> {
    let mut all = vec![
        tower(),
        steady(),
        long_tail(),
        herd(),
        uneven(),
        straggler(),
        antagonists(),
        fast_fail(),
        refuser(),
        old_version(),
        moved(),
        underreporter(),
        slow_method(),
        hang(),
        cold_start(),
        scale_out(),
        overload(),
        crash(),
        mass_restart(),
        rolling_restart(),
    ];
    let loads: &[f64] = extent.pick(
        &[0.75, 1.3],
        &[0.5, 0.6, 0.7, 0.75, 0.85, 0.93, 1.03, 1.15, 1.3, 1.5, 1.74],
    );
    all.extend(loads.iter().map(|load| under_load(*load)));
    all
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Serves 800 a second.
const fn worker() -> SimWorker {
    SimWorker::new(ServiceTime::Exponential { mean: ms(10) }).with_concurrency(8)
}

/// Workers, clients and seconds of an open load, in relation to what the workers can serve.
fn plan(workers: Vec<SimWorker>, clients: usize, load: f64, duration: f64) -> (FleetScenario, f64) {
    let idle = FleetScenario::new(workers.clone(), Load::open(0.0));
    let per_s = load * idle.capacity_per_s();
    let plan = FleetScenario::new(workers, Load::open(per_s))
        .with_clients(clients)
        .with_duration(seconds(duration));
    (plan, per_s * duration)
}

/// The demo of the `tower` crate's balancers, as its pull request 76 describes it.
fn tower() -> BalanceScenario {
    let max_ms = [1, 10, 10, 10, 10, 100, 100, 100, 100, 1_000];
    let worker =
        |max: u64| SimWorker::new(ServiceTime::Uniform { max: ms(max) }).with_concurrency(50);
    let calls = 50_000;
    let plan = FleetScenario::new(max_ms.map(worker).to_vec(), Load::closed(50, calls))
        .with_network_delay(Duration::ZERO)
        .with_policy(ClientPolicy::new().with_deadline(seconds(60.0)));
    let what = "10 workers that take up to 1, 4 x 10, 4 x 100 and 1,000 ms; 50 calls in flight";
    BalanceScenario::new("tower", what, plan, calls as f64).with_faulty_worker(9, 0.0)
}

fn steady() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 1, 0.7, 15.0);
    let what = "10 workers, all alike, at 0.7 of their capacity";
    BalanceScenario::new("steady", what, plan, calls).measured_between(1.0, 15.0)
}

fn long_tail() -> BalanceScenario {
    let worker = SimWorker::new(ServiceTime::Bimodal {
        fast: ms(6),
        slow: ms(206),
        slow_fraction: 0.02,
    });
    let (plan, calls) = plan(vec![worker.with_concurrency(8); 10], 4, 0.7, 15.0);
    let what = "10 workers at 0.7; one call of fifty takes 206 ms, the others 6";
    BalanceScenario::new("long-tail", what, plan, calls).measured_between(1.0, 15.0)
}

fn herd() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 50, 0.85, 15.0);
    let what = "50 clients that know nothing of each other, 10 workers at 0.85";
    BalanceScenario::new("herd", what, plan, calls).measured_between(1.0, 15.0)
}

fn uneven() -> BalanceScenario {
    let large = worker().with_concurrency(16).with_weight(4.0);
    let small = worker().with_concurrency(4);
    let workers = [vec![large; 5], vec![small; 5]].concat();
    let (plan, calls) = plan(workers, 4, 0.8, 15.0);
    let what = "5 workers of weight 4 and 5 of weight 1 at 0.8";
    BalanceScenario::new("uneven", what, plan, calls).measured_between(1.0, 15.0)
}

fn straggler() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(8.0), 3, WorkerChange::Slowdown(100.0));
    let what = "10 workers at 0.6; at 8 s one becomes 100 times slower";
    BalanceScenario::new("straggler", what, plan, calls)
        .measured_between(8.0, 20.0)
        .with_baseline_until(8.0)
        .with_faulty_worker(3, 9.0)
}

/// Three workers have an antagonist at any time, for 3 s each.
fn with_antagonists(mut plan: FleetScenario, from: f64, until: f64) -> FleetScenario {
    let workers = plan.workers();
    let (mut at, mut worker) = (from, 0);
    while at < until {
        // Three at a time, another one each second.
        plan = plan
            .with_change(seconds(at), worker, WorkerChange::Slowdown(4.0))
            .with_change(seconds(at + 3.0), worker, WorkerChange::Slowdown(1.0));
        worker = (worker + 3) % workers;
        at += 1.0;
    }
    plan
}

fn antagonists() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.65, 20.0);
    let plan = with_antagonists(plan, 5.0, 17.0);
    let what = "10 workers at 0.65; from 5 s on three are 4 times slower, each second another";
    BalanceScenario::new("antagonists", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
}

fn fast_fail() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan
        .with_policy(ClientPolicy::new().with_health(HealthConfig::none()))
        .with_change(seconds(5.0), 3, WorkerChange::Fail);
    let what = "10 workers at 0.6; from 5 s on one fails each call within 0.1 ms; no ejection";
    BalanceScenario::new("fast-fail", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .with_faulty_worker(3, 6.0)
}

fn refuser() -> BalanceScenario {
    let small = worker().with_concurrency(1).with_queue(0, Duration::ZERO);
    let workers = [vec![worker(); 9], vec![small]].concat();
    let (plan, calls) = plan(workers, 4, 0.6, 15.0);
    let what =
        "9 workers and one that takes a single call at a time and refuses what is more, at 0.6";
    BalanceScenario::new("refuser", what, plan, calls)
        .measured_between(1.0, 15.0)
        .with_faulty_worker(9, 1.0)
}

fn old_version() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 5], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(5.0), 3, WorkerChange::Reject);
    let what = "5 workers at 0.6; from 5 s on one is of an older version and rejects each call within 0.1 ms";
    BalanceScenario::new("old-version", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .with_faulty_worker(3, 6.0)
}

fn moved() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(5.0), 3, WorkerChange::Move);
    let what = "10 workers at 0.6; at 5 s one moves to another address, which is known at 8 s";
    BalanceScenario::new("moved", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .recovering_from(8.0)
}

fn underreporter() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan
        .with_change(seconds(5.0), 3, WorkerChange::Slowdown(4.0))
        .with_change(seconds(5.0), 3, WorkerChange::Underreport);
    let what = "10 workers at 0.6; at 5 s one becomes 4 times slower and reports that it has nothing to do";
    BalanceScenario::new("underreporter", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .with_faulty_worker(3, 6.0)
}

fn slow_method() -> BalanceScenario {
    let latency = ServiceTime::LogNormal {
        mean: ms(20),
        sigma: 0.3,
    };
    let worker = SimWorker::new(latency).with_concurrency(8);
    let (plan, calls) = plan(vec![worker; 5], 1, 0.6, 40.0);
    // One each 2 s.
    let rare = Method::new(1.0 / 2_400.0, ServiceTime::Fixed(ms(3_000)));
    let plan = plan
        .with_policy(ClientPolicy::new().with_attempts_max(1))
        .with_method(rare);
    let what = "5 workers at 0.6; a call each 2 s takes 3 s, the others, which are looked at, 20 ms; no retries";
    BalanceScenario::new("slow-method", what, plan, calls)
        .measured_between(3.0, 40.0)
        .measuring_method(0)
}

fn hang() -> BalanceScenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan
        .with_change(seconds(5.0), 3, WorkerChange::Hang)
        .with_change(seconds(15.0), 3, WorkerChange::Recover);
    let what = "10 workers at 0.6; one takes calls and answers none from 5 to 15 s";
    BalanceScenario::new("hang", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .with_faulty_worker(3, 6.0)
}

fn cold_start() -> BalanceScenario {
    let new = worker().with_cold_start(seconds(5.0), 20.0).absent();
    let workers = [vec![worker(); 8], vec![new; 4]].concat();
    let (mut plan, calls) = plan(workers, 4, 0.75, 20.0);
    for worker in 8..12 {
        plan = plan.with_change(seconds(5.0), worker, WorkerChange::Start);
    }
    let what = "8 workers at 0.75; at 5 s 4 more come, 20 times slower at first, warm after 5 s";
    BalanceScenario::new("newcomers", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
}

fn scale_out() -> BalanceScenario {
    let workers = [vec![worker(); 8], vec![worker().absent(); 4]].concat();
    let (mut plan, calls) = plan(workers, 4, 1.1, 20.0);
    for worker in 8..12 {
        plan = plan.with_change(seconds(8.0), worker, WorkerChange::Start);
    }
    let what = "8 workers at 1.1; at 8 s 4 more come, as good as the others from the start";
    BalanceScenario::new("relief", what, plan, calls).measured_between(8.5, 20.0)
}

fn overload() -> BalanceScenario {
    let workers = vec![worker(); 10];
    let capacity = FleetScenario::new(workers.clone(), Load::open(0.0)).capacity_per_s();
    let load = Load::open(0.7 * capacity)
        .then(seconds(5.0), OVERLOAD * capacity)
        .then(seconds(15.0), 0.7 * capacity);
    let plan = FleetScenario::new(workers, load)
        .with_clients(4)
        .with_duration(seconds(25.0));
    let what = "10 workers at 0.7, from 5 to 15 s at 1.3, at 0.7 again";
    BalanceScenario::new("overload", what, plan, 23.5 * capacity)
        .measured_between(5.0, 15.0)
        .with_baseline_until(5.0)
        .recovering_from(15.0)
}

fn crash() -> BalanceScenario {
    let worker = worker().with_cold_start(seconds(2.0), 5.0);
    let (plan, calls) = plan(vec![worker; 10], 4, 0.6, 20.0);
    let plan = plan
        .with_change(seconds(5.0), 3, WorkerChange::Crash)
        .with_change(seconds(12.0), 3, WorkerChange::Start);
    let what = "10 workers at 0.6; one is killed at 5 s, and back at 12 s";
    BalanceScenario::new("crash", what, plan, calls)
        .measured_between(5.0, 20.0)
        .with_baseline_until(5.0)
        .recovering_from(12.0)
}

fn mass_restart() -> BalanceScenario {
    let worker = worker().with_cold_start(seconds(3.0), 5.0);
    let (mut plan, calls) = plan(vec![worker; 10], 4, 0.45, 25.0);
    for worker in 0..5 {
        plan = plan
            .with_change(seconds(5.0), worker, WorkerChange::Crash)
            .with_change(seconds(11.0), worker, WorkerChange::Start);
    }
    let what = "10 workers at 0.45; half of them are killed at 5 s, and back at 11 s, cold";
    BalanceScenario::new("mass-restart", what, plan, calls)
        .measured_between(5.0, 25.0)
        .with_baseline_until(5.0)
        .recovering_from(11.0)
}

fn rolling_restart() -> BalanceScenario {
    let worker = worker().with_cold_start(seconds(2.0), 5.0);
    let (mut plan, calls) = plan(vec![worker; 10], 4, 0.6, 45.0);
    for worker in 0..10 {
        let at = 4.0 + 4.0 * worker as f64;
        plan = plan
            .with_change(seconds(at), worker, WorkerChange::Drain)
            .with_change(seconds(at + 2.0), worker, WorkerChange::Crash)
            .with_change(seconds(at + 2.5), worker, WorkerChange::Start);
    }
    let what = "10 workers at 0.6; one after the other drains, goes and comes back cold";
    BalanceScenario::new("rolling-restart", what, plan, calls)
        .measured_between(4.0, 45.0)
        .with_baseline_until(4.0)
}

/// Scenario of the figure: load varied beside antagonists.
fn under_load(load: f64) -> BalanceScenario {
    // Of what the antagonists leave.
    let left = (7.0 + 3.0 / 4.0) / 10.0;
    let (plan, calls) = plan(vec![worker(); 10], 4, load * left, 12.0);
    let plan = with_antagonists(plan, 0.0, 12.0);
    let what = "10 workers, three of them 4 times slower, each second another; load varied";
    BalanceScenario {
        load: Some(load),
        capacity_per_s: left * plan.capacity_per_s(),
        ..BalanceScenario::new(format!("load-{load:.2}"), what, plan, calls)
            .measured_between(2.0, 12.0)
    }
}

/// Times the capacity.
const OVERLOAD: f64 = 1.3;

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
