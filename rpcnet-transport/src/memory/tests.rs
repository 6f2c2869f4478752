//! Tests of the network itself, without QUIC.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    task::Waker,
};

use quinn::{
    AsyncUdpSocket,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use tokio::time::Instant;

use super::{
    hub::{DATAGRAM_BYTES_MAX, PORT_FIRST},
    *,
};

fn socket(network: &MemoryNetwork, addr: SocketAddr, bytes_max: usize) -> MemorySocket {
    let inbox = Arc::new(Inbox::new(bytes_max));
    let (addr, _) = network.0.add(addr, &inbox).expect("a free address");
    MemorySocket::new(Arc::clone(&network.0), inbox, addr)
}

fn any() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

fn send(from: &MemorySocket, to: &MemorySocket, contents: &[u8], segment_size: Option<usize>) {
    let transmit = Transmit {
        destination: to.local_addr().unwrap(),
        ecn: Some(EcnCodepoint::Ce),
        contents,
        segment_size,
        src_ip: None,
    };
    from.try_send(&transmit).unwrap();
}

/// Everything that has arrived by now, in receives of at most three datagrams with room for ten
/// bytes each.
fn arrived(socket: &MemorySocket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut cx = std::task::Context::from_waker(Waker::noop());
    loop {
        let mut memory = [[0; 10]; 3];
        let mut bufs = memory.each_mut().map(|buf| io::IoSliceMut::new(buf));
        let mut metas = [RecvMeta::default(); 3];
        let std::task::Poll::Ready(received) = socket.poll_recv(&mut cx, &mut bufs, &mut metas)
        else {
            return all;
        };
        for (meta, buf) in metas.iter().zip(&bufs).take(received.unwrap()) {
            assert_eq!(meta.ecn, Some(EcnCodepoint::Ce));
            all.push(buf[..meta.len].to_vec());
        }
    }
}

#[tokio::test]
async fn addresses_are_chosen_or_given_and_free_again_after_their_socket() {
    let network = MemoryNetwork::new();
    let chosen = socket(&network, any(), 1_000).local_addr;
    assert_eq!(chosen.ip().to_string(), "10.0.0.1");
    assert!(chosen.port() >= PORT_FIRST);
    let v6 = socket(&network, (Ipv6Addr::UNSPECIFIED, 80).into(), 1_000).local_addr;
    assert_eq!(v6.to_string(), "[fd00::2]:80");
    let given: SocketAddr = ([127, 0, 0, 1], 7).into();
    let first = socket(&network, given, 1_000);
    let inbox = Arc::new(Inbox::new(1_000));
    assert!(matches!(
        network.0.add(given, &inbox),
        Err(BindError::AddressInUse(addr)) if addr == given
    ));
    drop(first);
    assert_eq!(socket(&network, given, 1_000).local_addr, given);
}

#[tokio::test]
async fn one_address_has_as_many_ports_as_there_are_to_choose() {
    let network = MemoryNetwork::new();
    let wanted: SocketAddr = ([127, 0, 0, 1], 0).into();
    let ports = u32::from(u16::MAX - PORT_FIRST) + 1;
    let sockets: Vec<_> = (0..ports).map(|_| socket(&network, wanted, 1)).collect();
    let inbox = Arc::new(Inbox::new(1));
    assert!(matches!(
        network.0.add(wanted, &inbox),
        Err(BindError::Io { .. })
    ));
    drop(sockets);
    assert!(network.0.add(wanted, &inbox).is_ok());
}

#[tokio::test]
async fn batches_arrive_one_by_one_in_order_and_cut_to_the_room() {
    let network = MemoryNetwork::new();
    let (a, b) = (
        socket(&network, any(), 9_000),
        socket(&network, any(), 9_000),
    );
    send(&a, &b, b"aabbccd", Some(2));
    send(&a, &b, b"", None);
    send(&a, &b, b"longer than ten", None);
    let expected: [&[u8]; 6] = [b"aa", b"bb", b"cc", b"d", b"", b"longer tha"];
    assert_eq!(arrived(&b), expected);
    assert_eq!(network.stats().delivered, 6);
}

#[tokio::test]
async fn a_full_queue_loses_datagrams_without_blocking_senders() {
    let network = MemoryNetwork::new();
    let (a, b) = (
        socket(&network, any(), 9_000),
        socket(&network, any(), 1_000),
    );
    for _ in 0..1_000 {
        send(&a, &b, b"1", None);
    }
    let MemoryStats {
        delivered, dropped, ..
    } = network.stats();
    assert_eq!(delivered + dropped, 1_000);
    assert!((1..=1_000 / 40).contains(&delivered), "{delivered}");
    assert_eq!(arrived(&b).len() as u64, delivered);
    // There is room again, for a datagram of any size that UDP carries.
    send(&a, &b, &[1; DATAGRAM_BYTES_MAX], None);
    assert_eq!(arrived(&b).len(), 1);
    send(&a, &b, &[1; DATAGRAM_BYTES_MAX + 1], None);
    assert_eq!(network.stats().dropped, dropped + 1);
}

#[tokio::test(start_paused = true)]
async fn datagrams_arrive_after_the_delay_in_order() {
    let network = MemoryNetwork::new();
    let (a, b) = (
        socket(&network, any(), 9_000),
        socket(&network, any(), 9_000),
    );
    network.set_delay(Duration::from_millis(30));
    send(&a, &b, b"first", None);
    network.set_delay(Duration::ZERO);
    send(&a, &b, b"second", None);
    assert!(arrived(&b).is_empty());
    tokio::time::advance(Duration::from_millis(29)).await;
    assert!(arrived(&b).is_empty());
    // The waiting reader is woken by the arrival.
    let before = Instant::now();
    let mut buf = [0; 10];
    let received = std::future::poll_fn(|cx| {
        let mut meta = [RecvMeta::default()];
        b.poll_recv(cx, &mut [io::IoSliceMut::new(&mut buf)], &mut meta)
    });
    assert_eq!(received.await.unwrap(), 1);
    let waited = before.elapsed();
    assert!(waited <= Duration::from_millis(2), "{waited:?}");
    assert_eq!(&buf[..5], b"first");
    assert_eq!(arrived(&b), [b"second"]);
}

#[tokio::test]
async fn loss_is_drawn_from_the_seed() {
    let run = |per_mille, seed| {
        let network = MemoryNetwork::new();
        let (a, b) = (
            socket(&network, any(), 1 << 20),
            socket(&network, any(), 1 << 20),
        );
        network.set_loss(per_mille, seed);
        for n in 0..1_000u16 {
            send(&a, &b, &n.to_le_bytes(), None);
        }
        assert_eq!(arrived(&b).len() as u64, 1_000 - network.stats().lost);
        (network.stats().lost, network)
    };
    assert_eq!(run(0, 1).0, 0);
    assert_eq!(run(1_000, 1).0, 1_000);
    let (lost, _) = run(100, 1);
    assert!((70..=130).contains(&lost), "{lost}");
    assert_eq!(run(100, 1).0, lost);
}

#[tokio::test]
async fn a_partition_separates_two_addresses_until_it_heals() {
    let network = MemoryNetwork::new();
    let [a, b, c] = std::array::from_fn(|_| socket(&network, any(), 9_000));
    network.partition(a.local_addr, b.local_addr);
    for (from, to, passes) in [
        (&a, &b, false),
        (&b, &a, false),
        (&a, &c, true),
        (&c, &b, true),
    ] {
        send(from, to, b"1", None);
        assert_eq!(arrived(to).len(), usize::from(passes));
    }
    assert_eq!(network.stats().partitioned, 2);
    network.heal(b.local_addr, a.local_addr);
    for (from, to) in [(&a, &b), (&b, &a)] {
        send(from, to, b"1", None);
        assert_eq!(arrived(to).len(), 1);
    }
}

#[tokio::test]
async fn networks_are_isolated() {
    let (one, two) = (MemoryNetwork::new(), MemoryNetwork::new());
    let (a, b) = (socket(&one, any(), 9_000), socket(&two, any(), 9_000));
    // Both got the first address of their network; what is sent to it stays in that network.
    assert_eq!(a.local_addr, b.local_addr);
    send(&a, &b, b"to myself", None);
    assert_eq!((arrived(&a).len(), arrived(&b).len()), (1, 0));
    drop(a);
    let c = socket(&one, ([10, 9, 9, 9], 9).into(), 9_000);
    send(&c, &b, b"to an unused address", None);
    assert_eq!(one.stats().unreachable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_link_sends_at_its_rate_and_loses_what_its_queue_has_no_room_for() {
    let network = MemoryNetwork::new();
    let (a, b) = (
        socket(&network, any(), 90_000),
        socket(&network, any(), 90_000),
    );
    // With 28 bytes of headers, a datagram of 72 bytes takes a tenth of a second.
    network.set_rate(NonZeroU64::new(1_000), 350);
    for _ in 0..5 {
        send(&a, &b, &[1; 72], None);
    }
    send(&b, &a, &[1; 72], None);
    assert_eq!(network.stats().dropped, 2, "{:?}", network.stats());
    let tenth = Duration::from_millis(100);
    for _ in 0..3 {
        assert_eq!(arrived(&b).len(), 0);
        tokio::time::sleep(tenth).await;
        assert_eq!(arrived(&b).len(), 1);
    }
    assert_eq!(
        arrived(&a).len(),
        1,
        "the other direction has a rate of its own"
    );
    network.set_rate(None, 0);
    send(&a, &b, &[1; 72], None);
    assert_eq!(arrived(&b).len(), 1);
}

#[tokio::test]
async fn a_one_way_partition_loses_what_is_sent_in_one_direction() {
    let network = MemoryNetwork::new();
    let [a, b] = std::array::from_fn(|_| socket(&network, any(), 9_000));
    network.partition_one_way(a.local_addr, b.local_addr);
    send(&a, &b, b"1", None);
    send(&b, &a, b"1", None);
    assert_eq!((arrived(&a).len(), arrived(&b).len()), (1, 0));
    network.heal(b.local_addr, a.local_addr);
    send(&a, &b, b"1", None);
    assert_eq!(arrived(&b).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_isolated_address_neither_sends_nor_receives_and_loses_what_was_on_the_way_to_it() {
    let network = MemoryNetwork::new();
    let [a, b, c] = std::array::from_fn(|_| socket(&network, any(), 9_000));
    network.set_delay(Duration::from_millis(5));
    send(&a, &b, b"on the way", None);
    network.isolate(b.local_addr);
    for (from, to) in [(&a, &b), (&b, &a), (&a, &c)] {
        send(from, to, b"1", None);
    }
    tokio::time::advance(Duration::from_millis(5)).await;
    assert_eq!([&a, &b, &c].map(|to| arrived(to).len()), [0, 0, 1]);
    assert_eq!(network.stats().partitioned, 3);
    network.reconnect(b.local_addr);
    for (from, to) in [(&a, &b), (&b, &a)] {
        send(from, to, b"1", None);
    }
    tokio::time::advance(Duration::from_millis(5)).await;
    assert_eq!([&a, &b].map(|to| arrived(to).len()), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_link_may_have_a_loss_and_a_delay_of_its_own() {
    let network = MemoryNetwork::new();
    let [a, b, c] = std::array::from_fn(|_| socket(&network, any(), 9_000));
    let (slow, fast) = (Duration::from_millis(20), Duration::from_millis(2));
    network.set_delay(fast);
    network.set_link_delay(a.local_addr, c.local_addr, Some(slow..=slow));
    send(&a, &c, b"first", None);
    send(&b, &c, b"second", None);
    tokio::time::advance(fast).await;
    assert_eq!(arrived(&c), [b"second"], "the slow link holds up no other");
    tokio::time::advance(slow - fast).await;
    assert_eq!(arrived(&c), [b"first"]);
    network.set_link_delay(a.local_addr, c.local_addr, None);
    network.set_link_loss(b.local_addr, c.local_addr, Some(1_000));
    send(&a, &c, b"first", None);
    send(&b, &c, b"second", None);
    tokio::time::advance(fast).await;
    assert_eq!(arrived(&c), [b"first"]);
    network.set_link_loss(b.local_addr, c.local_addr, None);
    network.set_loss(1_000, 1);
    network.set_link_loss(a.local_addr, c.local_addr, Some(0));
    send(&a, &c, b"first", None);
    send(&b, &c, b"second", None);
    tokio::time::advance(fast).await;
    assert_eq!(arrived(&c), [b"first"]);
}

#[tokio::test(start_paused = true)]
async fn delays_of_a_range_are_drawn_from_the_seed_and_keep_the_order() {
    let run = async |seed| {
        let network = MemoryNetwork::seeded(seed);
        let [a, b] = std::array::from_fn(|_| socket(&network, any(), 90_000));
        network.set_delay_range(Duration::from_millis(1)..=Duration::from_millis(50));
        let (began, mut times, mut order) = (Instant::now(), Vec::new(), Vec::new());
        for n in 0..20_u8 {
            send(&a, &b, &[n], None);
            tokio::time::advance(Duration::from_millis(10)).await;
            for datagram in arrived(&b) {
                times.push(began.elapsed());
                order.push(datagram[0]);
            }
        }
        assert!(order.is_sorted(), "{order:?}");
        times
    };
    let times = run(1).await;
    assert_eq!(times, run(1).await);
    assert_ne!(times, run(2).await);
}

#[test]
fn a_seeded_network_seeds_each_endpoint_otherwise_and_each_run_alike() {
    let seeds = |network: MemoryNetwork| {
        [1, 2, 1].map(|host| {
            let inbox = Arc::new(Inbox::new(1_000));
            let addr = ([10, 0, 0, host], 80).into();
            let (_, seed) = network.0.add(addr, &inbox).expect("a free address");
            network.0.remove(addr);
            seed
        })
    };
    let drawn = seeds(MemoryNetwork::seeded(1));
    assert!(drawn[0] != drawn[1] && drawn[0] != drawn[2] && drawn[1] != drawn[2]);
    assert_eq!(drawn, seeds(MemoryNetwork::seeded(1)));
    assert_ne!(drawn, seeds(MemoryNetwork::seeded(2)));
    assert_eq!(seeds(MemoryNetwork::new()), [None; 3]);
}
