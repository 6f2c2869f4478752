//! Anti-entropy: pages, and the cost of a sync.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::config::ClusterConfig;
use crate::engine::test_support::{alive, engine, record};
use crate::id::{NodeId, name_key};
use crate::wire::GossipMessage;

#[test]
fn pages_cover_the_range_without_gap_or_overlap() {
    for count in [0u64, 1, 2, 3, 4, 7] {
        let entries: Vec<_> = (0..count).map(|n| (100 + 10 * n, n)).collect();
        let whole = SyncPage {
            first: 50,
            last: 900,
            entries: entries.clone(),
        };
        let mut pages = Vec::new();
        split_page(whole, 3, &mut pages);
        assert_eq!((pages[0].first, pages.last().unwrap().last), (50, 900));
        assert!(
            pages
                .windows(2)
                .all(|pair| pair[0].last + 1 == pair[1].first)
        );
        assert!(pages.iter().all(|page| page.entries.len() <= 3));
        assert_eq!(
            pages
                .iter()
                .flat_map(|page| page.entries.clone())
                .collect::<Vec<_>>(),
            entries
        );
    }
}

#[test]
fn buckets_tile_the_keys() {
    assert_eq!(
        (bucket_first(0), bucket_last(DIGEST_BUCKETS - 1)),
        (0, u64::MAX)
    );
    assert!((1..DIGEST_BUCKETS).all(|b| bucket_last(b - 1) + 1 == bucket_first(b)));
}

#[test]
fn agreement_prunes_alive_members_behind_many_failed_ones() {
    let mut engine = engine("me", 1, 1);
    let names = (0..3_000u32).map(|n| (n, format!("m{n}")));
    for (n, name) in names.clone() {
        let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 7_946));
        engine.merge_gossip(Record {
            addr,
            ..record(&name, 1, 0, 1, alive())
        });
    }
    // Those that failed are newer: they come before the others, and stay.
    let is_failed = |n: u32| n >= 500;
    for (_, name) in names.clone().filter(|(n, _)| is_failed(*n)) {
        engine.mark_failed(Time::ZERO, name_key(&name));
    }
    let now = Time::ZERO + 2 * engine.config.probe_interval;
    let view = engine.view_hash();
    let calls = 3_000usize.div_ceil(PRUNE_VISITS_MAX) as u32;
    for _ in 1..AGREEING_PEERS + calls {
        engine.compare_views(now, 7, view);
    }
    for (n, name) in names {
        let is_queued = engine.gossip_queue.contains(name_key(&name));
        assert_eq!(is_queued, is_failed(n), "{name}");
    }
}

/// Cost of making two views equal that differ in some members, sealed and with three tags.
#[cfg(feature = "unstable")]
mod cost {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::ClusterConfig;
    use crate::id::NodeId;
    use crate::key::ClusterKey;
    use crate::tags::Tags;

    #[test]
    fn a_sync_costs_by_what_differs_and_a_full_exchange_by_what_there_is() {
        println!("members, differing: digest sync, full both ways; datagrams and bytes");
        for nodes in [128, 1_000, 5_000] {
            let (mut a, mut b) = pair(nodes, 0);
            let whole = full(&mut a, &mut b);
            for differing in [1, 10, 100] {
                let (mut a, mut b) = pair(nodes, differing);
                let (datagrams, bytes) = sync(&mut a, &mut b);
                println!(
                    "{nodes:5}, {differing:3}: {datagrams:3} {bytes:7}, {:4} {:7}",
                    whole.0, whole.1
                );
                // An answer is 18 pages at most, so that buckets of a large view wait for the next.
                let is_whole = nodes <= 1_000 || differing <= 10;
                assert_eq!(
                    a.table.view() == b.table.view(),
                    is_whole,
                    "{nodes}, {differing}"
                );
                // The digest, and for each that differs its bucket of the view and its record.
                let part = nodes.div_ceil(DIGEST_BUCKETS) * 16 + 100;
                let summaries = (differing * part).min(nodes * 16 + 1_600);
                assert!(bytes <= 1_200 + summaries + differing * 250, "{bytes}");
                assert!(
                    differing == 100 || 2 * bytes < whole.1,
                    "{bytes} of {}",
                    whole.1
                );
            }
        }
    }

    /// Two of so many members; the second has heard newer incarnations of some others.
    fn pair(nodes: usize, differing: usize) -> (Engine, Engine) {
        let tags = [
            ("zone", "eu-west-1a"),
            ("role", "worker"),
            ("version", "1.14.2"),
        ];
        let config = ClusterConfig::lan()
            .with_key(ClusterKey::from_bytes([7; 32]))
            .with_tags(Tags::from_pairs(tags).unwrap());
        let addr = |n: usize| {
            let [.., a, b] = n.to_be_bytes();
            SocketAddr::from(([10, 0, a, b], 7_946))
        };
        let node = |n: usize| {
            let id = NodeId::new(format!("worker-{n}"), 1_700_000_000_000);
            Engine::new(config.clone(), id, addr(n), Time::ZERO, n as u64).unwrap()
        };
        let mut records: Vec<_> = (0..nodes).map(|n| node(n).own_record()).collect();
        let (mut a, mut b) = (node(0), node(1));
        a.preload_members(Time::ZERO, records.iter());
        records[2..2 + differing]
            .iter_mut()
            .for_each(|r| r.incarnation = 1);
        b.preload_members(Time::ZERO, records.iter());
        (a.timers, b.timers) = Default::default();
        a.validate_addr(b.local.key, b.local.addr);
        b.validate_addr(a.local.key, a.local.addr);
        (a, b)
    }

    fn sync(a: &mut Engine, b: &mut Engine) -> (usize, usize) {
        for at in [10, 13] {
            a.compare_views(Time::from_millis(1_000 * at), b.local.key, b.table.view());
        }
        exchange(a, b)
    }

    fn full(a: &mut Engine, b: &mut Engine) -> (usize, usize) {
        let now = Time::from_millis(13_000);
        a.start_pull(now, b.local.key, false);
        b.start_pull(now, a.local.key, false);
        let cost = exchange(a, b);
        assert!(
            a.anti_entropy.pull.is_none() && b.anti_entropy.pull.is_none(),
            "all of it came"
        );
        cost
    }

    /// Delivers all their datagrams; counts datagrams and bytes, with UDP and IPv4 headers.
    fn exchange(a: &mut Engine, b: &mut Engine) -> (usize, usize) {
        let (mut datagrams, mut bytes) = (0, 0);
        loop {
            let before = datagrams;
            for (from, to) in [(0, 1), (1, 0)] {
                let ends = [&mut *a, &mut *b];
                let addr = ends[from].local.addr;
                while let Some((_, mut datagram)) = ends[from].poll_transmit() {
                    datagrams += 1;
                    bytes += datagram.len() + 28;
                    ends[to].handle_datagram(Time::from_millis(13_000), addr, &mut datagram);
                }
            }
            if datagrams == before {
                return (datagrams, bytes);
            }
        }
    }
}

#[test]
fn a_large_view_that_differs_in_all_parts_is_answered_with_as_many_pages_as_may_be() {
    let config = ClusterConfig::lan();
    let addr = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
    let id = NodeId::new("me", 1);
    let mut engine = Engine::new(config, id, addr(1), Time::ZERO, 7).unwrap();
    for n in 2..3_000 {
        let record = Record {
            name: format!("n{n}").into(),
            addr: addr(n),
            ..engine.own_record()
        };
        engine.merge(Time::ZERO, record, RecordSource::Sync);
    }
    let key = name_key("n2");
    engine.validate_addr(key, addr(2));
    let sender = Sender {
        bytes: 1_000,
        addr: addr(2),
        key,
        epoch: 1,
        counter: 1,
        sealed_with: None,
    };
    let mut theirs = *engine.table.buckets();
    let mut answers = |theirs: &[u64; DIGEST_BUCKETS]| {
        engine.on_digest(Time::ZERO, sender, theirs);
        let mut pages = Vec::new();
        while let Some((_, mut datagram)) = engine.poll_transmit() {
            let (_, body, _) = engine.envelope.open(&mut datagram).unwrap();
            let known = (&engine.local, &engine.table);
            let message = GossipMessage::decode(body, &known, &mut Vec::new());
            match message.unwrap().payload {
                Payload::SyncSummary(page) => pages.push(page),
                other => panic!("{other:?}"),
            }
        }
        for page in &pages {
            let (all, _) = engine.table.versions(page.first, page.last, usize::MAX - 1);
            assert_eq!(page.entries, all);
        }
        pages
    };
    assert!(answers(&theirs).is_empty());
    // Two buckets far apart, the last one among them.
    (theirs[3], theirs[DIGEST_BUCKETS - 1]) = (1, 1);
    let two = answers(&theirs);
    assert_eq!((two.len(), two[1].last), (2, u64::MAX));
    let first = answers(&[1; DIGEST_BUCKETS]);
    assert_eq!((first.len(), first[0].first), (PAGES_MAX, 0));
    assert!(first.windows(2).all(|two| two[0].last + 1 == two[1].first));
    assert!(first[PAGES_MAX - 1].last < u64::MAX, "there is more");
}

#[test]
fn a_joiner_gossips_itself_and_not_what_it_pulled() {
    let addr = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
    let node = |name: &str, n: u16| {
        let (config, id) = (ClusterConfig::lan(), NodeId::new(name, 1));
        Engine::new(config, id, addr(n), Time::ZERO, u64::from(n)).unwrap()
    };
    let (mut seed, mut joiner) = (node("seed", 1), node("joiner", 2));
    for n in 3..303 {
        let record = Record {
            name: format!("n{n}").into(),
            addr: addr(n),
            ..seed.own_record()
        };
        seed.merge(Time::ZERO, record, RecordSource::Sync);
    }
    let changed = Record {
        name: "n7".into(),
        addr: addr(7),
        incarnation: 1,
        ..seed.own_record()
    };
    joiner.handle_seeds(Time::ZERO, &[addr(1)]);
    let mut datagrams = 0;
    loop {
        let before = datagrams;
        while let Some((to, mut datagram)) = joiner.poll_transmit() {
            datagrams += 1;
            if to == addr(1) {
                seed.handle_datagram(Time::ZERO, addr(2), &mut datagram);
            }
        }
        while let Some((to, mut datagram)) = seed.poll_transmit() {
            datagrams += 1;
            if to == addr(2) {
                joiner.handle_datagram(Time::ZERO, addr(1), &mut datagram);
            }
        }
        if datagrams == before {
            break;
        }
    }
    assert_eq!(joiner.view_hash(), seed.view_hash());
    assert_eq!(joiner.live_count(), 302);
    assert!(joiner.gossip_queue.contains(joiner.local.key));
    // And the seed, which it heard itself.
    assert_eq!(joiner.gossip_queue.len(), 2);
    // What happens from now on is gossiped again.
    joiner.merge_gossip(changed);
    assert_eq!(joiner.gossip_queue.len(), 3);
}
