//! Tests of expiry warnings, by the clock of the runtime.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rpcnet_testing::LogCapture;
use rustls::time_provider::TimeProvider;
use tokio::time::{Instant, sleep};
use tracing::Level;

use super::*;
use crate::{DevCa, Endpoint, MemoryNetwork, NodePem, Tls, TransportConfig};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
const HOUR: Duration = Duration::from_secs(HOUR_S);

/// Start of each validity; any time works.
const BEGIN_S: u64 = 1_800_000_000;

fn lasting(lifetime_s: u64) -> Validity {
    Validity {
        not_before_s: BEGIN_S,
        not_after_s: BEGIN_S + lifetime_s,
    }
}

/// All warnings between two times, of a process that checks when they are due.
fn warnings(expiry: &Expiry, from_s: u64, until_s: u64) -> Vec<(u64, ExpiryWarning)> {
    let at = |second| UnixTime::since_unix_epoch(Duration::from_secs(second));
    let (mut now_s, mut warnings) = (from_s, Vec::new());
    while now_s <= until_s {
        let warning = expiry.take_warning(at(now_s));
        warnings.extend(warning.map(|warning| (now_s, warning)));
        assert_eq!(expiry.take_warning(at(now_s)), None, "once");
        now_s += expiry.until_warning(at(now_s)).as_secs();
    }
    warnings
}

const LIFETIMES_S: [u64; 7] = [
    5 * 60,
    HOUR_S,
    DAY_S,
    30 * DAY_S,
    90 * DAY_S,
    365 * DAY_S,
    3_650 * DAY_S,
];

#[test]
fn a_certificate_renewed_with_a_third_left_causes_no_warning() {
    for lifetime_s in LIFETIMES_S {
        let expiry = Expiry::new(lasting(lifetime_s));
        let renewed_s = BEGIN_S + lifetime_s * 2 / 3;
        assert_eq!(warnings(&expiry, BEGIN_S, renewed_s), [], "{lifetime_s} s");
    }
}

#[test]
fn warnings_are_few_and_come_closer_to_the_end() {
    for lifetime_s in LIFETIMES_S {
        let (validity, expiry) = (lasting(lifetime_s), Expiry::new(lasting(lifetime_s)));
        let end_s = validity.not_after_s;
        let warnings = warnings(&expiry, BEGIN_S, end_s + 3 * HOUR_S);
        let (before, after): (Vec<_>, Vec<_>) =
            warnings.into_iter().partition(|(at_s, _)| *at_s <= end_s);
        assert_eq!(before[0].0, end_s - (lifetime_s / 4).min(30 * DAY_S));
        assert!(before.len() <= 16, "{lifetime_s} s: {before:?}");
        for pair in before.windows(2) {
            let (pause_s, left_s) = (pair[1].0 - pair[0].0, end_s - pair[1].0);
            assert!(
                pause_s >= PAUSE_MIN_S && pause_s.abs_diff(left_s) <= 1,
                "{pair:?}"
            );
        }
        for (at_s, warning) in before {
            let left = Duration::from_secs(end_s - at_s);
            assert_eq!(warning, ExpiryWarning::Soon(left));
        }
        let expired_s: Vec<_> = after.iter().map(|(at_s, _)| at_s - end_s).collect();
        assert_eq!(expired_s, [1, 1 + HOUR_S, 1 + 2 * HOUR_S]);
        assert!(after.iter().all(|(_, it)| *it == ExpiryWarning::Expired));
    }
}

#[test]
fn a_certificate_loaded_near_its_expiry_warns_at_once() {
    let expiry = || Expiry::new(lasting(DAY_S));
    let end_s = BEGIN_S + DAY_S;
    for left_s in [6 * HOUR_S, 61, 1, 0] {
        let warned = warnings(&expiry(), end_s - left_s, end_s);
        let soon = ExpiryWarning::Soon(Duration::from_secs(left_s));
        assert_eq!(warned[0], (end_s - left_s, soon));
    }
    assert_eq!(
        warnings(&expiry(), end_s + 7, end_s + 7),
        [(end_s + 7, ExpiryWarning::Expired)]
    );
}

#[test]
fn a_clock_set_back_suppresses_no_warning() {
    let expiry = Expiry::new(lasting(DAY_S));
    let end_s = BEGIN_S + DAY_S;
    // The clock is a year ahead for a while.
    let ahead_s = end_s + 365 * DAY_S;
    assert_eq!(warnings(&expiry, ahead_s, ahead_s).len(), 1);
    let first_s = end_s - 6 * HOUR_S;
    let warned = warnings(&expiry, BEGIN_S, first_s);
    assert_eq!(warned, [(first_s, ExpiryWarning::Soon(6 * HOUR))]);
}

/// The machine's time when the runtime started, and the runtime's own from then on.
#[derive(Debug, Clone, Copy)]
struct RuntimeClock {
    epoch: Duration,
    began: Instant,
}

impl RuntimeClock {
    fn start() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            epoch: epoch.expect("after the epoch"),
            began: Instant::now(),
        }
    }

    fn now(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.epoch + self.began.elapsed()
    }

    fn tls(self, pem: &NodePem) -> Tls {
        let [cert, key, ca] = [&pem.cert, &pem.key, &pem.ca].map(String::as_bytes);
        Tls::from_pem_at(cert, key, ca, Arc::new(self)).expect("an identity")
    }
}

impl TimeProvider for RuntimeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(
            self.epoch + self.began.elapsed(),
        ))
    }
}

fn bind(network: &MemoryNetwork, tls: Tls) -> Endpoint {
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    network
        .bind(any, TransportConfig::default(), tls)
        .expect("a free address")
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_warns_until_its_certificate_is_replaced() {
    let (log, clock) = (LogCapture::start(Level::WARN), RuntimeClock::start());
    let (ca, network) = (DevCa::new("test"), MemoryNetwork::new());
    let issue = |lifetime| clock.tls(&ca.issue_for("node-1", clock.now(), lifetime).unwrap());
    let endpoint = bind(&network, issue(24 * HOUR));
    let first_end = endpoint.certificate_not_after();
    sleep(17 * HOUR).await;
    assert_eq!(log.take().len(), 0, "more than a quarter is left");
    sleep(2 * HOUR).await;
    let warned = log.take();
    assert_eq!(warned.len(), 1, "{warned:?}");
    let line = &warned[0];
    assert_eq!(line.level, Level::WARN);
    for part in [
        "certificate expires soon",
        "node=\"node-1\"",
        "left=2",
        "not_after=\"20",
    ] {
        assert!(line.text.contains(part), "{part:?} is not in: {line:?}");
    }

    endpoint.reload_tls(issue(48 * HOUR)).expect("it is good");
    assert!(endpoint.certificate_not_after() > first_end + 40 * HOUR);
    sleep(35 * HOUR).await;
    assert_eq!(log.take().len(), 0, "the new one has time");

    // A certificate with less time left than the interval between two checks.
    let from = clock.now() - 3 * HOUR;
    let near = ca.issue_for("node-1", from, 3 * HOUR + HOUR / 4).unwrap();
    endpoint.reload_tls(clock.tls(&near)).expect("it is good");
    tokio::task::yield_now().await;
    assert_eq!(log.take().len(), 1, "at once");
    sleep(HOUR).await;
    let lines = log.take();
    let errors = lines.iter().filter(|line| line.level == Level::ERROR);
    assert_eq!(errors.count(), 1, "{lines:?}");
    assert!(lines.len() < 8, "{lines:?}");

    endpoint.shutdown(Duration::ZERO).await;
    sleep(24 * HOUR).await;
    assert_eq!(log.take().len(), 0, "the endpoint has ended");
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_one_identity_warn_once_between_them() {
    let (log, clock) = (LogCapture::start(Level::WARN), RuntimeClock::start());
    let (ca, network) = (DevCa::new("test"), MemoryNetwork::new());
    let pem = ca
        .issue_for("node-1", clock.now() - 20 * HOUR, 24 * HOUR)
        .unwrap();
    let tls = clock.tls(&pem);
    let endpoints = [(); 8].map(|()| bind(&network, tls.clone()));
    sleep(HOUR).await;
    assert_eq!(log.take().len(), 1);
    // An endpoint that is bound later warns in place of those that have ended.
    drop(endpoints);
    let _later = bind(&network, tls);
    sleep(HOUR + HOUR / 2).await;
    assert_eq!(log.take().len(), 1);
}

/// Authority with this name.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// End of an identity whose own certificate expires in 2060 and comes with intermediates of one
/// authority that expire at the start of these years, and with others that it does not need.
fn end_of_chain(years: &[i32], unneeded: &[i32]) -> SystemTime {
    let generate = || KeyPair::generate().unwrap();
    let (root_key, key, node_key) = (generate(), generate(), generate());
    let root_pem = authority("root").self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(authority("root"), root_key);
    let mut chain = String::new();
    for (name, years) in [("intermediate", years), ("other", unneeded)] {
        for year in years {
            let mut intermediate = authority(name);
            intermediate.not_before = rcgen::date_time_ymd(2000, 1, 1);
            intermediate.not_after = rcgen::date_time_ymd(*year, 1, 1);
            chain += &intermediate.signed_by(&key, &root).unwrap().pem();
        }
    }
    let mut node = CertificateParams::new(["node-1".to_owned()]).unwrap();
    node.not_after = rcgen::date_time_ymd(2060, 1, 1);
    node.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let intermediate = Issuer::new(authority("intermediate"), key);
    let cert = node.signed_by(&node_key, &intermediate).unwrap().pem() + &chain;
    let key = node_key.serialize_pem();
    let tls = Tls::from_pem(cert.as_bytes(), key.as_bytes(), root_pem.as_bytes());
    tls.expect("an identity").not_after()
}

#[test]
fn an_identity_ends_with_the_first_certificate_that_it_needs() {
    let year = |year| SystemTime::from(rcgen::date_time_ymd(year, 1, 1));
    assert_eq!(end_of_chain(&[2070], &[]), year(2060));
    assert_eq!(end_of_chain(&[2050], &[]), year(2050));
    assert_eq!(end_of_chain(&[2050, 2055], &[2040]), year(2055));
    assert_eq!(end_of_chain(&[2055, 2050], &[2058]), year(2055));
    assert_eq!(end_of_chain(&[2001, 2070], &[2001]), year(2060));
}

#[test]
fn not_after_is_exact_to_the_second() {
    // From 2001 to 2126, in both time formats.
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for lifetime in [40, 125].map(|years| years * 365 * 24 * HOUR) {
        let pem = DevCa::new("test").issue_for("node-1", from, lifetime);
        let tls = pem.unwrap().tls().expect("an identity");
        assert_eq!(tls.not_after(), from + lifetime);
    }
}
