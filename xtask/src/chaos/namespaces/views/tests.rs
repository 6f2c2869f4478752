//! Tests of the checks: a good record passes, a planted violation fails.

use super::*;
use crate::chaos::{
    call_report::CallCounts,
    namespaces::hosts::socket_address,
    protocol::{Notice, SeenEvent},
    record::RecordEntry,
};

fn names(names: &[&str]) -> Hosts {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn roster() -> Roster {
    let hosts = 1..=3;
    hosts
        .map(|host| (format!("h{host:02}"), socket_address(host)))
        .collect()
}

/// Part of the roster.
fn only(hosts: &[&str]) -> Roster {
    let mut roster = roster();
    roster.retain(|name, _| hosts.contains(&name.as_str()));
    roster
}

fn none() -> Hosts {
    Hosts::new()
}

fn status() -> Status {
    let members = roster().into_iter().map(|(name, addr)| {
        let state = "alive".to_owned();
        (
            name,
            MemberView {
                state,
                addr,
                epoch: 7,
            },
        )
    });
    Status {
        members: members.collect(),
        ..Status::default()
    }
}

/// Three hosts that see each other.
fn calm() -> Record {
    let mut record = Record::new();
    for host in roster().keys() {
        record.add(host, Notice::Status(status()));
    }
    record
}

fn changed(host: &str, change: impl FnOnce(&mut Status)) -> Record {
    let mut record = calm();
    let mut status = status();
    change(&mut status);
    record.add(host, Notice::Status(status));
    record
}

fn event(kind: EventKind, member: &str) -> Notice {
    let member = member.to_owned();
    Notice::Event(SeenEvent { kind, member })
}

fn view<'a>(
    record: &'a Record,
    roster: &'a Roster,
    hosts: &'a Hosts,
    since: Duration,
) -> Observations<'a> {
    Observations {
        record,
        roster,
        hosts,
        since,
    }
}

/// Planted change of a status.
type Change = dyn Fn(&mut Status);

#[test]
fn full_views_pass() {
    assert_eq!(
        view(&calm(), &roster(), &none(), Duration::ZERO).all_are_whole(),
        Ok(())
    );
}

#[test]
fn a_view_that_is_not_whole_is_described() {
    let member = |status: &mut Status, name: &str| status.members.remove(name).unwrap();
    let cases: [(&str, Box<Change>); 5] = [
        (
            "h01 does not know h03",
            Box::new(move |status| drop(member(status, "h03"))),
        ),
        (
            "h01 holds h02 failed",
            Box::new(|status| status.members.get_mut("h02").unwrap().state = "failed".into()),
        ),
        (
            "h01 has h02 at 127.0.1.1:7946 not 10.77.0.2:7946",
            Box::new(|status| {
                let addr = ([127, 0, 1, 1], 7946).into();
                status.members.get_mut("h02").unwrap().addr = addr;
            }),
        ),
        (
            "h01 knows an earlier life of h02",
            Box::new(|status| status.members.get_mut("h02").unwrap().epoch = 6),
        ),
        (
            "h01 holds h09 live, which does not run",
            Box::new(|status| {
                let stranger = status.members["h02"].clone();
                status.members.insert("h09".into(), stranger);
            }),
        ),
    ];
    for (failed_check, change) in cases {
        let record = changed("h01", change);
        let finding = view(&record, &roster(), &none(), Duration::ZERO).all_are_whole();
        assert_eq!(finding, Err(failed_check.to_owned()));
    }
}

#[test]
fn earlier_notices_do_not_count() {
    let record = calm();
    let later = Duration::from_secs(3_600);
    let finding = view(&record, &roster(), &none(), later)
        .all_are_whole()
        .unwrap_err();
    assert!(finding.contains("h01 tells nothing"), "{finding}");
    assert!(
        view(&record, &only(&["h01"]), &none(), later)
            .others_serve()
            .is_err()
    );
    assert!(
        view(&record, &roster(), &names(&["h01"]), later)
            .refuse()
            .is_err()
    );
    assert!(
        view(&record, &only(&["h01"]), &names(&["h02"]), later)
            .others_hold_failed()
            .is_err()
    );
}

#[test]
fn a_member_that_is_only_suspect_is_not_held_out() {
    let faulty = names(&["h03"]);
    for (state, expected) in [
        ("alive", Err("h01 holds h03 alive".to_owned())),
        ("suspect", Err("h01 holds h03 suspect".to_owned())),
        ("failed", Ok(())),
        ("unreachable", Ok(())),
    ] {
        let record = changed("h01", |status| {
            status.members.get_mut("h03").unwrap().state = state.into();
        });
        let finding = view(&record, &only(&["h01"]), &faulty, Duration::ZERO).others_hold_failed();
        assert_eq!(finding, expected, "{state}");
    }
}

#[test]
fn refusing_and_serving_nodes_are_distinguished() {
    let both = names(&["h01", "h02"]);
    let record = changed("h01", |status| {
        status.refuses = Some("reaches 1 of 3".into());
    });
    assert_eq!(
        view(&record, &roster(), &both, Duration::ZERO).refuse(),
        Err("h02 serves".to_owned())
    );
    let failed_check = Err("h01 refuses: reaches 1 of 3".to_owned());
    assert_eq!(
        view(&record, &roster(), &none(), Duration::ZERO).others_serve(),
        failed_check
    );
    assert_eq!(
        view(&record, &roster(), &names(&["h01"]), Duration::ZERO).others_never_refused(),
        Ok(())
    );
    // Once is enough, also if it serves again.
    let mut record = record;
    record.add("h01", Notice::Status(status()));
    assert_eq!(
        view(&record, &roster(), &none(), Duration::ZERO).others_serve(),
        Ok(())
    );
    let finding = view(&record, &roster(), &none(), Duration::ZERO)
        .others_never_refused()
        .unwrap_err();
    assert!(finding.starts_with("h01 refused at "), "{finding}");
}

#[test]
fn failures_of_those_that_live_are_false() {
    let mut record = calm();
    record.add("h01", event(EventKind::Failed, "h03"));
    record.add("h03", event(EventKind::Failed, "h01"));
    record.add("h01", event(EventKind::Suspect, "h02"));
    let told = |observers: &[&str], faulty: &[&str]| {
        false_failures(&record, &names(observers), &names(faulty), Duration::ZERO).len()
    };
    assert_eq!(told(&["h01", "h02"], &["h03"]), 0);
    assert_eq!(told(&["h01", "h02", "h03"], &["h03"]), 1);
    assert_eq!(told(&["h01", "h02"], &[]), 1);
    assert_eq!(suspicions(&record, &names(&["h01"]), Duration::ZERO).1, 1);
}

#[test]
fn suspicions_are_counted_by_pair() {
    let mut record = calm();
    for _ in 0..3 {
        record.add("h01", event(EventKind::Suspect, "h03"));
        record.add("h01", event(EventKind::Failed, "h03"));
    }
    record.add("h02", event(EventKind::Suspect, "h03"));
    let most = Some(("h01 of h03".to_owned(), 3));
    let both = names(&["h01", "h02"]);
    assert_eq!(suspicions(&record, &both, Duration::ZERO), (most, 4));
    let second = names(&["h02"]);
    assert_eq!(suspicions(&record, &second, Duration::ZERO).1, 1);
}

#[test]
fn calls_are_summed_from_a_time_on() {
    let mut record = calm();
    let told = |name: &str, failed| CallReport {
        answered_by: [(name.to_owned(), 5)].into(),
        idempotent: CallCounts { ok: 5, failed },
        ..CallReport::default()
    };
    for (at, calls) in [(1, told("h01", 9)), (3, told("h03", 1))] {
        record.log.push(RecordEntry {
            at: Duration::from_secs(at),
            node: "h02".into(),
            kind: RecordKind::Calls(calls),
        });
    }
    let sum = calls(&record, Duration::from_secs(2));
    assert_eq!((sum.ok(), sum.failed()), (5, 1));
    let since = Duration::from_secs(2);
    assert_eq!(
        view(&record, &only(&["h03"]), &none(), since).others_answer(),
        Ok(())
    );
    let failed_check = Err("no call was answered by h01".to_owned());
    assert_eq!(
        view(&record, &only(&["h01", "h03"]), &none(), since).others_answer(),
        failed_check
    );
}

#[test]
fn the_busiest_sender_is_found() {
    let at = |seconds, sent: &[(&str, u64)]| -> BTreeMap<String, (Duration, Status)> {
        let told = |(host, sent): &(&str, u64)| {
            let status = Status {
                sent: *sent,
                ..Status::default()
            };
            ((*host).to_owned(), (Duration::from_secs(seconds), status))
        };
        sent.iter().map(told).collect()
    };
    let before = at(1, &[("h01", 10), ("h02", 10), ("h03", 1_000)]);
    // h03 was started again meanwhile, and h04 is new.
    let after = at(11, &[("h01", 50), ("h02", 519_010), ("h03", 5), ("h04", 9)]);
    let busiest = most_datagrams(&before, &after).unwrap();
    assert_eq!(busiest, ("h02".to_owned(), 51_900.0));
}
