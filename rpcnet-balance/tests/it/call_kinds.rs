//! Tests of calls of different kinds: no server looks slow because of what it serves.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::{
    Balancer, Endpoint, InFlight, LatencyNormalizer, Outcome, OutcomeKind, PeakEwma, PickContext,
    Prequal, Time, View,
};

const SHORT: u64 = 1;
const LONG: u64 = 2;
const SERVERS: usize = 5;

/// Balancers that compare latencies.
fn measuring() -> [Arc<dyn Balancer>; 2] {
    [Arc::new(PeakEwma::seeded(7)), Arc::new(Prequal::seeded(7))]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms_: u64) -> Time {
    Time::from(ms(ms_))
}

/// Calls to equal servers, and the client's normaliser.
struct Client {
    balancer: Arc<dyn Balancer>,
    normalizer: LatencyNormalizer,
    view: View,
    /// The end of each call, its server, its kind, and its beginning.
    running: Vec<(Time, usize, u64, Time, InFlight)>,
    /// How many times as long each server takes.
    slowdown: [u32; SERVERS],
}

impl Client {
    fn new(balancer: Arc<dyn Balancer>) -> Self {
        Self {
            balancer,
            normalizer: LatencyNormalizer::new(),
            view: View::new((0..SERVERS as u64).map(|id| Arc::new(Endpoint::new(id))), 1),
            running: Vec::new(),
            slowdown: [1; SERVERS],
        }
    }

    /// Begins a call at a server of the balancer's choice, or at `server`, and returns the server.
    fn begin(&mut self, now: Time, kind: u64, server: Option<usize>) -> usize {
        let cx = PickContext::new().with_now(now);
        let index = server.or_else(|| self.balancer.pick(&self.view, &cx));
        let index = index.expect("all are allowed");
        let mut call = self.view[index].begin_at(now);
        call.set_scale(now, self.normalizer.scale(kind));
        let took = if kind == LONG { ms(3_000) } else { ms(20) };
        // Up to a tenth more or less, by chance.
        let took = took * (90 + (now.as_nanos() / 1_000_000 * 7919 % 21) as u32) / 100;
        let ends = now + took * self.slowdown[index];
        self.running.push((ends, index, kind, now, call));
        index
    }

    /// Records the calls that have ended by now.
    fn end(&mut self, now: Time) {
        let mut ended: Vec<_> = self.running.extract_if(.., |call| call.0 <= now).collect();
        ended.sort_by_key(|call| call.0);
        for (ends, index, kind, began, call) in ended {
            drop(call);
            let outcome = Outcome::new(OutcomeKind::Success, ends.since(began)).with_now(ends);
            let outcome = self.normalizer.record(kind, outcome);
            self.balancer.on_outcome(&self.view, index, &outcome);
        }
    }

    /// A short call every 10 ms from `from` to `until`, in ms; the share of each server.
    fn shares(&mut self, from: u64, until: u64) -> [f64; SERVERS] {
        self.shares_of_calls_each(10, from, until)
    }

    fn shares_of_calls_each(&mut self, pause: usize, from: u64, until: u64) -> [f64; SERVERS] {
        let mut counts = [0; SERVERS];
        for now in (from..until).step_by(pause).map(at) {
            self.end(now);
            counts[self.begin(now, SHORT, None)] += 1;
        }
        let all: u32 = counts.iter().sum();
        counts.map(|count| f64::from(count) / f64::from(all))
    }
}

#[test]
fn a_server_keeps_its_share_after_a_long_call() {
    for balancer in measuring() {
        let mut client = Client::new(balancer);
        client.shares(1_000, 5_000);
        client.begin(at(5_000), LONG, Some(2));
        client.shares(5_000, 8_500);
        let share = client.shares(8_500, 18_500)[2];
        assert!(share > 0.1, "{share} of {:?}", client.balancer);
    }
}

#[test]
fn long_calls_in_flight_cause_no_silence() {
    for balancer in measuring() {
        let mut client = Client::new(balancer);
        client.shares(1_000, 5_000);
        client.begin(at(5_000), LONG, Some(0));
        client.end(at(9_000));
        for server in 0..SERVERS {
            client.begin(at(9_000), LONG, Some(server));
        }
        // So few that mostly only long calls are in flight.
        let shares = client.shares_of_calls_each(50, 9_050, 11_700);
        for share in shares {
            assert!(share > 0.06, "{shares:?} of {:?}", client.balancer);
        }
    }
}

#[test]
fn a_server_that_is_slow_for_all_kinds_is_noticed_even_if_it_serves_first() {
    for balancer in measuring() {
        let mut client = Client::new(balancer);
        client.slowdown[2] = 10;
        for (now, kind) in [(1_000, SHORT), (1_001, LONG), (1_002, SHORT)] {
            client.begin(at(now), kind, Some(2));
        }
        for now in (1_010..60_000).step_by(1_000) {
            client.begin(at(now), LONG, None);
            client.shares(now, now + 1_000);
        }
        let share = client.shares(60_010, 70_000)[2];
        assert!(share < 0.06, "{share} of {:?}", client.balancer);
    }
}

#[test]
fn a_hung_server_is_noticed_while_long_calls_are_in_flight_everywhere() {
    for balancer in measuring() {
        let mut client = Client::new(balancer);
        client.begin(at(1_000), SHORT, Some(0));
        client.begin(at(1_001), LONG, Some(1));
        client.shares(1_002, 5_000);
        for server in 0..SERVERS {
            client.begin(at(5_000), LONG, Some(server));
        }
        client.slowdown[2] = 1_000_000;
        client.shares(5_000, 5_200);
        let share = client.shares(5_200, 7_500)[2];
        assert!(share < 0.04, "{share} of {:?}", client.balancer);
    }
}
