//! Hostile members: bounded work for each datagram.

use super::*;

/// A node and a member of it that sends arbitrary records.
struct Pair {
    node: Engine,
    liar: Engine,
}

impl Pair {
    fn new() -> Self {
        let (mut node, mut liar) = (engine("node", 1, 1), engine("liar", 1, 2));
        node.merge_gossip(liar.own_record());
        liar.merge_gossip(node.own_record());
        while node.poll_transmit().is_some() || liar.poll_transmit().is_some() {}
        Self { node, liar }
    }

    /// Sends records in as few datagrams as possible. Gives their bytes.
    fn tell(&mut self, records: Vec<Record>) -> usize {
        let to = crate::id::instance_key(self.node.local.key, self.node.local.epoch);
        let mut bytes = 0;
        for updates in self.liar.pack(records, 0, usize::MAX) {
            self.liar.send(addr(1), to, Payload::Gossip { updates });
            let (_, mut datagram) = self.liar.poll_transmit().unwrap();
            bytes += datagram.len();
            self.node
                .handle_datagram(Time::ZERO, addr(2), &mut datagram);
            #[cfg(feature = "unstable")]
            self.check_work();
        }
        bytes
    }

    #[cfg(feature = "unstable")]
    fn check_work(&mut self) {
        let work = self.node.take_datagram_work().expect("it was for us");
        let bound = 4_096 + 512 * work.items as u64;
        assert!(work.steps <= bound, "{work:?}, at most {bound} steps");
    }
}

pub(super) fn far(n: u32) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 7_946))
}

/// A record with another address than its claim.
fn at(addr: SocketAddr, record: Record) -> Record {
    Record { addr, ..record }
}

#[test]
fn members_at_one_address_are_bounded_whatever_the_claims() {
    let mut pair = Pair::new();
    let mut bytes = 0;
    let mut n = 0;
    while bytes < 68_000 {
        let names: Vec<String> = (n..n + 20).map(|n| format!("x{n}")).collect();
        let lives = names.iter().zip(n..).map(|(name, n)| {
            let alive = record(name, 1, 0, 1, alive());
            at(far(n), alive)
        });
        // The newer instance has the address of all the others.
        let ends = names.iter().map(|name| {
            let left = record(name, 2, 0, 1, Claim::Left);
            at(far(1 << 20), left)
        });
        let records: Vec<_> = lives.chain(ends).collect();
        bytes += pair.tell(records);
        n += 20;
    }
    let there = pair
        .node
        .members()
        .filter(|m| m.addr == far(1 << 20))
        .count();
    assert!(there <= 16, "{there} of {n} are remembered at one address");
    assert!(there > 1);
}

#[test]
fn many_members_in_one_part_of_the_view_are_summed_up_in_pages() {
    let mut pair = Pair::new();
    // Names whose keys all lie in the first 64th of the keys.
    let names = (0u32..).map(|n| format!("x{n}"));
    let mut chosen = names.filter(|name| crate::id::name_key(name) >> 58 == 0);
    for n in 0..8_000 {
        let alive = record(&chosen.next().unwrap(), 1, 0, 1, alive());
        pair.node
            .merge(Time::ZERO, at(far(n), alive), RecordSource::Sync);
    }
    let to = crate::id::instance_key(pair.node.local.key, pair.node.local.epoch);
    let digest = Payload::SyncDigest {
        buckets: Box::new([1; crate::wire::DIGEST_BUCKETS]),
    };
    pair.liar.send(addr(1), to, digest);
    let (_, mut datagram) = pair.liar.poll_transmit().unwrap();
    while pair.node.poll_transmit().is_some() {}
    pair.node
        .handle_datagram(Time::ZERO, addr(2), &mut datagram);
    #[cfg(feature = "unstable")]
    pair.check_work();
    let answers = std::iter::from_fn(|| pair.node.poll_transmit()).count();
    assert!((1..=16).contains(&answers), "{answers} datagrams");
}
