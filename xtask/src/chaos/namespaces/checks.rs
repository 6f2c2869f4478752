//! Checks of a run, by its record alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use super::{
    protocol::{CallResults, MemberView, Status},
    record::{ClusterRecord, RecordKind},
};

/// Names of hosts.
pub(crate) type Names = BTreeSet<String>;

/// Result of a check, or a description of what was seen instead.
pub(crate) type CheckResult = Result<(), String>;

/// Checks that each of the hosts sees all of them alive, each in its present life and at its
/// address, and no other member live. Only notices after `since` counts.
pub(crate) fn views_are_whole(
    record: &ClusterRecord,
    roster: &BTreeMap<String, SocketAddr>,
    since: Duration,
) -> CheckResult {
    let mut seen = Violations::default();
    for host in roster.keys() {
        let Some(status) = status_of(record, host, since) else {
            seen.add(format!("{host} tells nothing"));
            continue;
        };
        for (name, addr) in roster {
            let epoch = own_epoch(record, name);
            match status.members.get(name) {
                None => seen.add(format!("{host} does not know {name}")),
                Some(it) if it.state != "alive" => {
                    seen.add(format!("{host} holds {name} {}", it.state));
                }
                Some(it) if it.addr != *addr => {
                    seen.add(format!("{host} has {name} at {} not {addr}", it.addr));
                }
                Some(it) if epoch.is_some_and(|epoch| epoch != it.epoch) => {
                    seen.add(format!("{host} knows an earlier life of {name}"));
                }
                Some(_) => {}
            }
        }
        let is_stranger = |(name, it): &(&String, &MemberView)| {
            it.is_live() && !roster.contains_key(name.as_str())
        };
        if let Some((name, _)) = status.members.iter().find(is_stranger) {
            seen.add(format!("{host} holds {name} live, which does not run"));
        }
    }
    seen.into_result()
}

/// Checks that each of the observers holds each of the victims failed, or in another state that no
/// calls go to.
pub(crate) fn are_not_live(
    record: &ClusterRecord,
    observers: &Names,
    victims: &Names,
    since: Duration,
) -> CheckResult {
    let mut seen = Violations::default();
    for host in observers {
        let Some(status) = status_of(record, host, since) else {
            seen.add(format!("{host} tells nothing"));
            continue;
        };
        for victim in victims {
            if let Some(it) = status.members.get(victim).filter(|it| it.is_live()) {
                seen.add(format!("{host} holds {victim} {}", it.state));
            }
        }
    }
    seen.into_result()
}

/// Checks that each of these hosts refuses to serve under `keep_majority`.
pub(crate) fn all_refuse(record: &ClusterRecord, hosts: &Names, since: Duration) -> CheckResult {
    check_serving(record, hosts, since, |status| status.refuses.is_none())
}

/// Checks that each of these hosts serves under `keep_majority`.
pub(crate) fn all_serve(record: &ClusterRecord, hosts: &Names, since: Duration) -> CheckResult {
    check_serving(record, hosts, since, |status| status.refuses.is_some())
}

fn check_serving(
    record: &ClusterRecord,
    hosts: &Names,
    since: Duration,
    is_wrong: impl Fn(&Status) -> bool,
) -> CheckResult {
    let mut seen = Violations::default();
    for host in hosts {
        match status_of(record, host, since) {
            None => seen.add(format!("{host} tells nothing")),
            Some(status) if is_wrong(status) => seen.add(match &status.refuses {
                None => format!("{host} serves"),
                Some(reason) => format!("{host} refuses: {reason}"),
            }),
            Some(_) => {}
        }
    }
    seen.into_result()
}

/// Checks that none of these hosts refused at any time since.
pub(crate) fn never_refused(record: &ClusterRecord, hosts: &Names, since: Duration) -> CheckResult {
    let mut seen = Violations::default();
    for entry in record.log.iter().filter(|it| it.at >= since) {
        if let RecordKind::ServeDecision(Some(reason)) = &entry.kind
            && hosts.contains(&entry.host)
        {
            let (at, host) = (entry.at.as_secs_f64(), &entry.host);
            seen.add(format!("{host} refused at {at:.1} s: {reason}"));
        }
    }
    seen.into_result()
}

/// Checks that calls are answered by each of these hosts since.
pub(crate) fn all_answer(record: &ClusterRecord, hosts: &Names, since: Duration) -> CheckResult {
    let calls = calls(record, since);
    let mut seen = Violations::default();
    for host in hosts
        .iter()
        .filter(|it| !calls.answered_by.contains_key(*it))
    {
        seen.add(format!("no call was answered by {host}"));
    }
    seen.into_result()
}

/// Failures of members that did not fail, as told by `observers`: who told of whom, and when.
pub(crate) fn false_failures(
    record: &ClusterRecord,
    observers: &Names,
    victims: &Names,
    since: Duration,
) -> Vec<String> {
    let failures = events(record, since, "NodeFailed")
        .filter(|(_, host, member)| observers.contains(*host) && !victims.contains(*member));
    failures
        .map(|(at, host, member)| {
            let at = at.as_secs_f64();
            format!("{host} held {member} failed at {at:.1} s")
        })
        .collect()
}

/// Number of suspicions of each pair of observer and member since: the largest, and the sum.
pub(crate) fn suspicions(
    record: &ClusterRecord,
    observers: &Names,
    since: Duration,
) -> (Option<(String, u64)>, u64) {
    let mut pairs: BTreeMap<String, u64> = BTreeMap::new();
    let suspicions = events(record, since, "NodeSuspect");
    for (_, host, member) in suspicions.filter(|(_, host, _)| observers.contains(*host)) {
        *pairs.entry(format!("{host} of {member}")).or_default() += 1;
    }
    let sum = pairs.values().sum();
    let most = pairs.into_iter().max_by_key(|(_, count)| *count);
    (most, sum)
}

/// Ends of calls since.
pub(crate) fn calls(record: &ClusterRecord, since: Duration) -> CallResults {
    let mut sum = CallResults::default();
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

fn events<'a>(
    record: &'a ClusterRecord,
    since: Duration,
    kind: &'a str,
) -> impl Iterator<Item = (Duration, &'a str, &'a str)> {
    let entries = record.log.iter().filter(move |it| it.at >= since);
    entries.filter_map(move |entry| match &entry.kind {
        RecordKind::Event(seen) if seen.kind == kind => {
            Some((entry.at, entry.host.as_str(), seen.member.as_deref()?))
        }
        _ => None,
    })
}

fn status_of<'a>(record: &'a ClusterRecord, host: &str, since: Duration) -> Option<&'a Status> {
    let (at, status) = record.latest.get(host)?;
    (*at >= since).then_some(status)
}

/// The epoch of a host's node, by its own word.
fn own_epoch(record: &ClusterRecord, host: &str) -> Option<u64> {
    let (_, status) = record.latest.get(host)?;
    status.members.get(host).map(|it| it.epoch)
}

/// Violations that were seen, the first few of them as text.
#[derive(Default)]
struct Violations {
    texts: Vec<String>,
    more: usize,
}

impl Violations {
    fn add(&mut self, what: String) {
        if self.texts.len() < TEXTS_MAX {
            self.texts.push(what);
        } else {
            self.more += 1;
        }
    }

    fn into_result(self) -> CheckResult {
        match (self.texts.is_empty(), self.more) {
            (true, _) => Ok(()),
            (false, 0) => Err(self.texts.join(", ")),
            (false, more) => Err(format!("{}, and {more} more", self.texts.join(", "))),
        }
    }
}

/// Sights in one complaint.
const TEXTS_MAX: usize = 6;

#[cfg(test)]
mod tests;
