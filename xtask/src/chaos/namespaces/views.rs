//! Checks of what the nodes have told: their views, decisions, events and calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use crate::chaos::{
    call_report::CallReport,
    cluster::CheckResult,
    protocol::{EventKind, MemberView, Status},
    record::{Record, RecordKind},
};

pub(crate) type Hosts = BTreeSet<String>;
/// The running hosts, and where each is reached.
pub(crate) type Roster = BTreeMap<String, SocketAddr>;

/// Check of hosts, or of all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    /// The fact that holds if the check passes.
    pub(crate) fact: &'static str,
    pub(crate) hosts: &'static [usize],
    pub(crate) predicate: fn(&Observations<'_>) -> CheckResult,
}

impl Check {
    pub(crate) fn run(
        &self,
        record: &Record,
        roster: &Roster,
        hosts: &Hosts,
        since: Duration,
    ) -> CheckResult {
        (self.predicate)(&Observations {
            record,
            roster,
            hosts,
            since,
        })
    }
}

/// Notices of all nodes since a time, and the hosts that a check is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observations<'a> {
    pub(crate) record: &'a Record,
    pub(crate) roster: &'a Roster,
    /// The hosts of the check.
    pub(crate) hosts: &'a Hosts,
    pub(crate) since: Duration,
}

impl<'a> Observations<'a> {
    /// Checks that each host of the roster sees all of them alive, each in its present life and at
    /// its address, and no other member live.
    pub(crate) fn all_are_whole(&self) -> CheckResult {
        let roster = self.roster;
        self.check_each(roster.keys(), |host, status| {
            let mut seen = Vec::new();
            for (name, addr) in roster {
                let epoch = own_epoch(self.record, name);
                match status.members.get(name) {
                    None => seen.push(format!("{host} does not know {name}")),
                    Some(it) if it.state != "alive" => {
                        seen.push(format!("{host} holds {name} {}", it.state));
                    }
                    Some(it) if it.addr != *addr => {
                        seen.push(format!("{host} has {name} at {} not {addr}", it.addr));
                    }
                    Some(it) if epoch.is_some_and(|epoch| epoch != it.epoch) => {
                        seen.push(format!("{host} knows an earlier life of {name}"));
                    }
                    Some(_) => {}
                }
            }
            let is_stranger = |(name, it): &(&String, &MemberView)| {
                it.is_live() && !roster.contains_key(name.as_str())
            };
            if let Some((name, _)) = status.members.iter().find(is_stranger) {
                seen.push(format!("{host} holds {name} live, which does not run"));
            }
            seen
        })
    }

    /// Checks that each of the others holds each of the hosts failed, or in another state that no
    /// calls go to.
    pub(crate) fn others_hold_failed(&self) -> CheckResult {
        self.check_each(self.others(), |observer, status| {
            let seen = self.hosts.iter().filter_map(|host| {
                let it = status.members.get(host).filter(|it| it.is_live())?;
                Some(format!("{observer} holds {host} {}", it.state))
            });
            seen.collect()
        })
    }

    /// Checks that each of the hosts refuses to serve under `keep_majority`.
    pub(crate) fn refuse(&self) -> CheckResult {
        self.check_each(self.hosts, |host, status| {
            let serves = status.refuses.is_none();
            Vec::from_iter(serves.then(|| format!("{host} serves")))
        })
    }

    /// Checks that each of the others serves under `keep_majority`.
    pub(crate) fn others_serve(&self) -> CheckResult {
        self.check_each(self.others(), |host, status| {
            let reasons = status.refuses.iter();
            let refusals = reasons.map(|reason| format!("{host} refuses: {reason}"));
            refusals.collect()
        })
    }

    /// Checks that none of the others refused at any time.
    pub(crate) fn others_never_refused(&self) -> CheckResult {
        let entries = self.record.log.iter().filter(|it| it.at >= self.since);
        result_of(entries.filter_map(|entry| match &entry.kind {
            RecordKind::ServeDecision(Some(reason)) if !self.hosts.contains(&entry.node) => {
                let (at, host) = (entry.at.as_secs_f64(), &entry.node);
                Some(format!("{host} refused at {at:.1} s: {reason}"))
            }
            _ => None,
        }))
    }

    /// Checks that calls are answered by each of the others.
    pub(crate) fn others_answer(&self) -> CheckResult {
        let answered_by = calls(self.record, self.since).answered_by;
        let silent = self
            .others()
            .filter(|host| !answered_by.contains_key(*host));
        result_of(silent.map(|host| format!("no call was answered by {host}")))
    }

    fn others(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        others(self.roster, self.hosts)
    }

    /// Checks the last status of each of these hosts, which must have come in time.
    fn check_each(
        &self,
        hosts: impl IntoIterator<Item = &'a String>,
        violations: impl Fn(&str, &Status) -> Vec<String>,
    ) -> CheckResult {
        result_of(hosts.into_iter().flat_map(|host| {
            let latest = self.record.latest.get(host);
            match latest.filter(|(at, _)| *at >= self.since) {
                Some((_, status)) => violations(host, status),
                None => vec![format!("{host} tells nothing")],
            }
        }))
    }
}

/// A check of these hosts.
pub(crate) const fn check(
    fact: &'static str,
    hosts: &'static [usize],
    predicate: fn(&Observations<'_>) -> CheckResult,
) -> Check {
    Check {
        fact,
        hosts,
        predicate,
    }
}

/// The hosts of a roster but these.
pub(crate) fn others<'a>(
    roster: &'a Roster,
    hosts: &'a Hosts,
) -> impl Iterator<Item = &'a String> + use<'a> {
    roster.keys().filter(|name| !hosts.contains(*name))
}

/// Failures of members that did not fail, as told by `observers`: who told of whom, and when.
pub(crate) fn false_failures(
    record: &Record,
    observers: &Hosts,
    faulty: &Hosts,
    since: Duration,
) -> Vec<String> {
    let failures = events(record, observers, since, EventKind::Failed);
    failures
        .filter(|(_, _, member)| !faulty.contains(*member))
        .map(|(at, host, member)| {
            let at = at.as_secs_f64();
            format!("{host} held {member} failed at {at:.1} s")
        })
        .collect()
}

/// Number of suspicions of each pair of observer and member since: the largest, and the sum.
pub(crate) fn suspicions(
    record: &Record,
    observers: &Hosts,
    since: Duration,
) -> (Option<(String, u64)>, u64) {
    let mut pairs: BTreeMap<String, u64> = BTreeMap::new();
    for (_, host, member) in events(record, observers, since, EventKind::Suspect) {
        *pairs.entry(format!("{host} of {member}")).or_default() += 1;
    }
    let sum = pairs.values().sum();
    let most = pairs.into_iter().max_by_key(|(_, count)| *count);
    (most, sum)
}

/// Sum of the calls that ended since.
pub(crate) fn calls(record: &Record, since: Duration) -> CallReport {
    let mut sum = CallReport::default();
    for entry in record.log.iter().filter(|it| it.at >= since) {
        if let RecordKind::Calls(calls) = &entry.kind {
            sum.add(calls);
        }
    }
    sum
}

/// The host that sent most datagrams a second between two times, and how many.
pub(crate) fn most_datagrams(
    before: &BTreeMap<String, (Duration, Status)>,
    after: &BTreeMap<String, (Duration, Status)>,
) -> Option<(String, f64)> {
    let rates = after.iter().filter_map(|(host, (end, status))| {
        // One that was started meanwhile began at zero, at an unknown time before.
        let (begin, sent) = match before.get(host) {
            Some((begin, it)) if it.sent <= status.sent => (*begin, it.sent),
            _ => return None,
        };
        let seconds = end.checked_sub(begin)?.as_secs_f64();
        let rate = (status.sent - sent) as f64 / seconds;
        (seconds > 0.0).then(|| (host.clone(), rate))
    });
    rates.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Events of a kind that these observers told since: when, the observer, the member.
fn events<'a>(
    record: &'a Record,
    observers: &'a Hosts,
    since: Duration,
    kind: EventKind,
) -> impl Iterator<Item = (Duration, &'a str, &'a str)> {
    let entries = record.log.iter().filter(move |it| it.at >= since);
    let entries = entries.filter(|it| observers.contains(&it.node));
    entries.filter_map(move |entry| match &entry.kind {
        RecordKind::Event(seen) if seen.kind == kind => {
            Some((entry.at, &*entry.node, &*seen.member))
        }
        _ => None,
    })
}

/// The epoch of a host's node, by its own word.
fn own_epoch(record: &Record, host: &str) -> Option<u64> {
    let (_, status) = record.latest.get(host)?;
    status.members.get(host).map(|it| it.epoch)
}

/// A failed check if there are violations; it names the first few.
fn result_of(violations: impl Iterator<Item = String>) -> CheckResult {
    let mut texts: Vec<_> = violations.collect();
    let more = texts.len().saturating_sub(TEXTS_MAX);
    texts.truncate(TEXTS_MAX);
    match (texts.is_empty(), more) {
        (true, _) => Ok(()),
        (false, 0) => Err(texts.join(", ")),
        (false, more) => Err(format!("{}, and {more} more", texts.join(", "))),
    }
}

/// Violations in one failed check.
const TEXTS_MAX: usize = 6;

#[cfg(test)]
mod tests;
