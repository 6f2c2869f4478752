//! The days that a strategy has to get through.

use std::time::Duration;

use rpcnet_balance::{
    health::HealthConfig,
    sim::{Change, Latency, Load, Method, Plan, Policy, Worker},
};

use crate::scenario::Extent;

/// A day: who does what, what happens, and what is looked at.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// For people.
    pub(super) what: &'static str,
    pub(super) plan: Plan,
    /// Calls that are looked at began in this time, in seconds.
    pub(super) focus: (f64, f64),
    /// Before anything happened.
    pub(super) healthy: Option<(f64, f64)>,
    /// From when on all should be well again.
    pub(super) over_at: Option<f64>,
    /// Who gets too much easily, and from when on that is counted.
    pub(super) bad: Option<(usize, f64)>,
    /// The method whose calls are looked at, if there are others.
    pub(super) method: Option<usize>,
    /// Load in relation to the capacity, where that is what is varied.
    pub(super) load: Option<f64>,
    pub(super) capacity_per_s: f64,
    calls: f64,
}

impl Scenario {
    fn new(name: impl Into<String>, what: &'static str, plan: Plan, calls: f64) -> Self {
        Self {
            name: name.into(),
            what,
            focus: (0.0, f64::MAX),
            healthy: None,
            over_at: None,
            bad: None,
            method: None,
            load: None,
            capacity_per_s: plan.capacity_per_s(),
            plan,
            calls,
        }
    }

    fn focus(mut self, from: f64, until: f64) -> Self {
        self.focus = (from, until);
        self
    }

    /// The rest of the day is compared with the time from the first second until then.
    fn healthy_until(mut self, until: f64) -> Self {
        self.healthy = Some((1.0, until));
        self
    }

    fn over_at(mut self, at: f64) -> Self {
        self.over_at = Some(at);
        self
    }

    fn bad(mut self, worker: usize, from: f64) -> Self {
        self.bad = Some((worker, from));
        self
    }

    fn of_method(mut self, method: usize) -> Self {
        self.method = Some(method);
        self
    }

    /// About.
    pub(super) fn calls(&self) -> f64 {
        self.calls
    }
}

/// Those whose name contains what was asked for, else all.
pub(super) fn chosen(
    extent: Extent,
    part: Option<&str>,
    names: &[String],
) -> Result<Vec<Scenario>, String> {
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

fn all(extent: Extent) -> Vec<Scenario> {
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
        newcomers(),
        relief(),
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
const fn worker() -> Worker {
    Worker::new(Latency::Exponential { mean: ms(10) }).with_concurrency(8)
}

/// Workers, clients and seconds of an open load, in relation to what the workers can serve.
fn plan(workers: Vec<Worker>, clients: usize, load: f64, duration: f64) -> (Plan, f64) {
    let idle = Plan::new(workers.clone(), Load::open(0.0));
    let per_s = load * idle.capacity_per_s();
    let plan = Plan::new(workers, Load::open(per_s))
        .with_clients(clients)
        .with_duration(seconds(duration));
    (plan, per_s * duration)
}

/// The demo of the `tower` crate's balancers, as its pull request 76 describes it.
fn tower() -> Scenario {
    let max_ms = [1, 10, 10, 10, 10, 100, 100, 100, 100, 1_000];
    let worker = |max: u64| Worker::new(Latency::Uniform { max: ms(max) }).with_concurrency(50);
    let calls = 50_000;
    let plan = Plan::new(max_ms.map(worker).to_vec(), Load::closed(50, calls))
        .with_network(Duration::ZERO)
        .with_policy(Policy::new().with_deadline(seconds(60.0)));
    let what = "10 workers that take up to 1, 4 x 10, 4 x 100 and 1,000 ms; 50 calls in flight";
    Scenario::new("tower", what, plan, calls as f64).bad(9, 0.0)
}

fn steady() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 1, 0.7, 15.0);
    let what = "10 workers, all alike, at 0.7 of their capacity";
    Scenario::new("steady", what, plan, calls).focus(1.0, 15.0)
}

fn long_tail() -> Scenario {
    let worker = Worker::new(Latency::Bimodal {
        fast: ms(6),
        slow: ms(206),
        slow_share: 0.02,
    });
    let (plan, calls) = plan(vec![worker.with_concurrency(8); 10], 4, 0.7, 15.0);
    let what = "10 workers at 0.7; one call of fifty takes 206 ms, the others 6";
    Scenario::new("long-tail", what, plan, calls).focus(1.0, 15.0)
}

fn herd() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 50, 0.85, 15.0);
    let what = "50 clients that know nothing of each other, 10 workers at 0.85";
    Scenario::new("herd", what, plan, calls).focus(1.0, 15.0)
}

fn uneven() -> Scenario {
    let large = worker().with_concurrency(16).with_weight(4.0);
    let small = worker().with_concurrency(4);
    let workers = [vec![large; 5], vec![small; 5]].concat();
    let (plan, calls) = plan(workers, 4, 0.8, 15.0);
    let what = "5 workers of weight 4 and 5 of weight 1 at 0.8";
    Scenario::new("uneven", what, plan, calls).focus(1.0, 15.0)
}

fn straggler() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(8.0), 3, Change::Pace(100.0));
    let what = "10 workers at 0.6; at 8 s one becomes 100 times slower";
    Scenario::new("straggler", what, plan, calls)
        .focus(8.0, 20.0)
        .healthy_until(8.0)
        .bad(3, 9.0)
}

/// Three workers have an antagonist at any time, for 3 s each.
fn with_antagonists(mut plan: Plan, from: f64, until: f64) -> Plan {
    let workers = plan.workers();
    let (mut at, mut worker) = (from, 0);
    while at < until {
        // Three at a time, somebody else each second.
        plan = plan
            .with_change(seconds(at), worker, Change::Pace(4.0))
            .with_change(seconds(at + 3.0), worker, Change::Pace(1.0));
        worker = (worker + 3) % workers;
        at += 1.0;
    }
    plan
}

fn antagonists() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.65, 20.0);
    let plan = with_antagonists(plan, 5.0, 17.0);
    let what = "10 workers at 0.65; from 5 s on three are 4 times slower, each second another";
    Scenario::new("antagonists", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
}

fn fast_fail() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan
        .with_policy(Policy::new().with_health(HealthConfig::none()))
        .with_change(seconds(5.0), 3, Change::Fail);
    let what = "10 workers at 0.6; from 5 s on one fails each call within 0.1 ms; no ejection";
    Scenario::new("fast-fail", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .bad(3, 6.0)
}

fn refuser() -> Scenario {
    let small = worker().with_concurrency(1).with_queue(0, Duration::ZERO);
    let workers = [vec![worker(); 9], vec![small]].concat();
    let (plan, calls) = plan(workers, 4, 0.6, 15.0);
    let what =
        "9 workers and one that takes a single call at a time and refuses what is more, at 0.6";
    Scenario::new("refuser", what, plan, calls)
        .focus(1.0, 15.0)
        .bad(9, 1.0)
}

fn old_version() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 5], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(5.0), 3, Change::Reject);
    let what = "5 workers at 0.6; from 5 s on one is of an older version and rejects each call within 0.1 ms";
    Scenario::new("old-version", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .bad(3, 6.0)
}

fn moved() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(5.0), 3, Change::Move);
    let what = "10 workers at 0.6; at 5 s one moves to another address, which is known at 8 s";
    Scenario::new("moved", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .over_at(8.0)
}

fn underreporter() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan
        .with_change(seconds(5.0), 3, Change::Pace(4.0))
        .with_change(seconds(5.0), 3, Change::Underreport);
    let what = "10 workers at 0.6; at 5 s one becomes 4 times slower and reports that it has nothing to do";
    Scenario::new("underreporter", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .bad(3, 6.0)
}

fn slow_method() -> Scenario {
    let latency = Latency::LogNormal {
        mean: ms(20),
        sigma: 0.3,
    };
    let worker = Worker::new(latency).with_concurrency(8);
    let (plan, calls) = plan(vec![worker; 5], 1, 0.6, 40.0);
    // One each 2 s.
    let rare = Method::new(1.0 / 2_400.0, Latency::Fixed(ms(3_000)));
    let plan = plan
        .with_policy(Policy::new().with_attempts_max(1))
        .with_method(rare);
    let what = "5 workers at 0.6; a call each 2 s takes 3 s, the others, which are looked at, 20 ms; no retries";
    Scenario::new("slow-method", what, plan, calls)
        .focus(3.0, 40.0)
        .of_method(0)
}

fn hang() -> Scenario {
    let (plan, calls) = plan(vec![worker(); 10], 4, 0.6, 20.0);
    let plan = plan.with_change(seconds(5.0), 3, Change::Hang).with_change(
        seconds(15.0),
        3,
        Change::Recover,
    );
    let what = "10 workers at 0.6; one takes calls and answers none from 5 to 15 s";
    Scenario::new("hang", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .bad(3, 6.0)
}

fn newcomers() -> Scenario {
    let new = worker().with_cold_start(seconds(5.0), 20.0).absent();
    let workers = [vec![worker(); 8], vec![new; 4]].concat();
    let (mut plan, calls) = plan(workers, 4, 0.75, 20.0);
    for worker in 8..12 {
        plan = plan.with_change(seconds(5.0), worker, Change::Start);
    }
    let what = "8 workers at 0.75; at 5 s 4 more come, 20 times slower at first, warm after 5 s";
    Scenario::new("newcomers", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
}

fn relief() -> Scenario {
    let workers = [vec![worker(); 8], vec![worker().absent(); 4]].concat();
    let (mut plan, calls) = plan(workers, 4, 1.1, 20.0);
    for worker in 8..12 {
        plan = plan.with_change(seconds(8.0), worker, Change::Start);
    }
    let what = "8 workers at 1.1; at 8 s 4 more come, as good as the others from the start";
    Scenario::new("relief", what, plan, calls).focus(8.5, 20.0)
}

fn overload() -> Scenario {
    let workers = vec![worker(); 10];
    let capacity = Plan::new(workers.clone(), Load::open(0.0)).capacity_per_s();
    let load = Load::open(0.7 * capacity)
        .then(seconds(5.0), OVERLOAD * capacity)
        .then(seconds(15.0), 0.7 * capacity);
    let plan = Plan::new(workers, load)
        .with_clients(4)
        .with_duration(seconds(25.0));
    let what = "10 workers at 0.7, from 5 to 15 s at 1.3, at 0.7 again";
    Scenario::new("overload", what, plan, 23.5 * capacity)
        .focus(5.0, 15.0)
        .healthy_until(5.0)
        .over_at(15.0)
}

fn crash() -> Scenario {
    let worker = worker().with_cold_start(seconds(2.0), 5.0);
    let (plan, calls) = plan(vec![worker; 10], 4, 0.6, 20.0);
    let plan = plan
        .with_change(seconds(5.0), 3, Change::Crash)
        .with_change(seconds(12.0), 3, Change::Start);
    let what = "10 workers at 0.6; one is killed at 5 s, and back at 12 s";
    Scenario::new("crash", what, plan, calls)
        .focus(5.0, 20.0)
        .healthy_until(5.0)
        .over_at(12.0)
}

fn mass_restart() -> Scenario {
    let worker = worker().with_cold_start(seconds(3.0), 5.0);
    let (mut plan, calls) = plan(vec![worker; 10], 4, 0.45, 25.0);
    for worker in 0..5 {
        plan = plan
            .with_change(seconds(5.0), worker, Change::Crash)
            .with_change(seconds(11.0), worker, Change::Start);
    }
    let what = "10 workers at 0.45; half of them are killed at 5 s, and back at 11 s, cold";
    Scenario::new("mass-restart", what, plan, calls)
        .focus(5.0, 25.0)
        .healthy_until(5.0)
        .over_at(11.0)
}

fn rolling_restart() -> Scenario {
    let worker = worker().with_cold_start(seconds(2.0), 5.0);
    let (mut plan, calls) = plan(vec![worker; 10], 4, 0.6, 45.0);
    for worker in 0..10 {
        let at = 4.0 + 4.0 * worker as f64;
        plan = plan
            .with_change(seconds(at), worker, Change::Drain)
            .with_change(seconds(at + 2.0), worker, Change::Crash)
            .with_change(seconds(at + 2.5), worker, Change::Start);
    }
    let what = "10 workers at 0.6; one after the other drains, goes and comes back cold";
    Scenario::new("rolling-restart", what, plan, calls)
        .focus(4.0, 45.0)
        .healthy_until(4.0)
}

/// What the figure is of.
fn under_load(load: f64) -> Scenario {
    // Of what the antagonists leave.
    let left = (7.0 + 3.0 / 4.0) / 10.0;
    let (plan, calls) = plan(vec![worker(); 10], 4, load * left, 12.0);
    let plan = with_antagonists(plan, 0.0, 12.0);
    let what = "10 workers, three of them 4 times slower, each second another; load varied";
    Scenario {
        load: Some(load),
        capacity_per_s: left * plan.capacity_per_s(),
        ..Scenario::new(format!("load-{load:.2}"), what, plan, calls).focus(2.0, 12.0)
    }
}

/// Times the capacity.
const OVERLOAD: f64 = 1.3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_chosen_by_name() {
        let names = |part, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
            let chosen = chosen(Extent::Quick, part, &names)?;
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
