//! Tests of the limits of connections, of peers and of all peers together.

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures::FutureExt;

use super::{windows::WindowedConnection, *};
use crate::{
    TransportConfig,
    gauge::Gauge,
    stream::{StallTimer, Stalled},
};

const KIB: usize = 1024;

fn accounts(total: usize, connection: usize) -> PeerAccounts {
    let config = TransportConfig::lan()
        .with_message_bytes_max(64 * KIB)
        .with_buffered_bytes_max(total)
        .with_connection_buffered_bytes_max(connection)
        .with_connections_max(NonZeroUsize::new(64).unwrap());
    PeerAccounts::new(&config)
}

fn connection(accounts: &PeerAccounts, name: &str) -> Arc<ConnectionAccount> {
    ConnectionAccount::new(accounts.account(name.into()), None)
}

/// A connection whose windows do not matter.
struct Fixed;

impl WindowedConnection for Fixed {
    fn set_receive_window(&self, _bytes: u64) {}
    fn set_send_window(&self, _bytes: u64) {}
    fn bytes_sent(&self) -> u64 {
        0
    }
}

/// Reserves messages of 32 KiB for as long as there is room.
fn fill(connection: &Arc<ConnectionAccount>) -> Vec<BufferReservation> {
    std::iter::from_fn(|| connection.try_reserve(32 * KIB).ok()).collect()
}

#[test]
fn connections_peers_and_all_peers_keep_their_limits() {
    let accounts = accounts(1024 * KIB, 128 * KIB);
    let mut held = Vec::new();
    held.extend(fill(&connection(&accounts, "greedy")));
    assert_eq!(held.len(), 4, "one connection");
    for _ in 0..10 {
        held.extend(fill(&connection(&accounts, "greedy")));
    }
    assert_eq!(held.len(), 16, "half of all, over eleven connections");
    let other = fill(&connection(&accounts, "other"));
    assert_eq!(other.len(), 4, "another peer does not notice");
    drop(held);
    assert_eq!(accounts.account("greedy".into()).bytes(), 0);
    assert_eq!(accounts.0.total.lock().bytes, 128 * KIB);
}

#[test]
fn one_message_of_the_largest_size_always_fits() {
    let accounts = accounts(1, 1);
    let connection = connection(&accounts, "a");
    let held = connection.try_reserve(64 * KIB);
    assert!(held.is_ok());
    assert!(connection.try_reserve(32 * KIB).is_err());
    drop(held);
    assert!(connection.try_reserve(32 * KIB).is_ok());
}

fn poll(room: &mut StreamBudget, bytes: usize) -> Option<()> {
    std::future::poll_fn(|cx| room.poll_reserve(bytes, cx)).now_or_never()
}

#[tokio::test]
async fn a_reader_waits_for_bytes_that_others_release() {
    let accounts = accounts(1024 * KIB, 64 * KIB);
    let account = connection(&accounts, "a");
    let [mut first, mut second] = [0, 1].map(|_| StreamBudget::charged_to(Arc::clone(&account)));
    assert_eq!(poll(&mut first, 64 * KIB), Some(()));
    assert_eq!(poll(&mut second, 64 * KIB), None);
    assert!(second.is_waiting());
    // A message that was handed out leaves its connection, and its peer when the next one is asked
    // for.
    first.on_message_taken();
    assert_eq!(poll(&mut second, 64 * KIB), Some(()));
    assert_eq!(accounts.bytes(), 128 * KIB);
    first.begin_next();
    assert_eq!(accounts.bytes(), 64 * KIB);
    assert_eq!(poll(&mut first, 16 * KIB), Some(()), "small ones need none");
    assert_eq!(poll(&mut first, 64 * KIB), None);
    drop((first, second));
    assert_eq!(accounts.bytes(), 0);
    assert_eq!(accounts.0.waiter_count.load(Relaxed), 0);
}

#[tokio::test]
async fn reservations_are_granted_in_order() {
    let accounts = accounts(64 * KIB, 64 * KIB);
    let account = connection(&accounts, "a");
    let mut budgets = [0; 4].map(|_| StreamBudget::charged_to(Arc::clone(&account)));
    let [holder, large, small, fits] = &mut budgets;
    assert_eq!(poll(holder, 40 * KIB), Some(()));
    assert_eq!(poll(large, 60 * KIB), None);
    assert_eq!(
        poll(fits, 20 * KIB),
        None,
        "there is room, but others wait before it"
    );
    fits.release();
    assert_eq!(poll(small, 30 * KIB), None);
    let mut other = StreamBudget::charged_to(connection(&accounts, "b"));
    assert_eq!(poll(&mut other, 60 * KIB), None);
    holder.release();
    assert_eq!(poll(small, 30 * KIB), None, "behind the large one");
    assert_eq!(poll(large, 60 * KIB), Some(()));
    large.release();
    assert_eq!(poll(&mut other, 60 * KIB), Some(()));
    assert_eq!(poll(small, 30 * KIB), None);
    other.release();
    assert_eq!(poll(small, 30 * KIB), Some(()));
}

#[test]
fn one_peer_has_at_most_half_of_the_connections() {
    let accounts = accounts(1024 * KIB, 64 * KIB);
    let greedy = accounts.account("greedy".into());
    let held: Vec<_> = std::iter::from_fn(|| greedy.connect(Fixed)).collect();
    assert_eq!(held.len(), 32);
    let other = accounts.account("other".into()).connect(Fixed);
    assert!(other.is_some());
    drop(held);
    assert!(greedy.connect(Fixed).is_some());
}

#[test]
fn calls_that_outlive_their_connection_stay_charged_to_their_peer() {
    let config = TransportConfig::lan().with_calls_max(NonZeroUsize::new(100).unwrap());
    let accounts = PeerAccounts::new(&config);
    let endpoint = Gauge::default();
    let peer = accounts.account("a".into());
    let mut running: Vec<_> = (0..50).map(|_| peer.begin_call(&endpoint).0).collect();
    assert!(peer.exceeds_call_limit(51, false));
    drop(peer);
    // The same peer connects again.
    let peer = accounts.account("a".into());
    assert!(peer.exceeds_call_limit(51, false));
    running.clear();
    assert!(!peer.exceeds_call_limit(1, false));
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn accounts_of_gone_peers_are_removed() {
    let accounts = accounts(1024 * KIB, 64 * KIB);
    for number in 0..100 {
        drop(accounts.account(number.to_string().into()));
    }
    let kept = accounts.account("kept".into());
    assert_eq!(accounts.0.by_peer.len(), 1);
    assert!(Arc::ptr_eq(&kept, &accounts.account("kept".into())));
}

#[test]
fn an_overdraft_is_at_most_the_share_and_takes_nothing_from_others() {
    let accounts = accounts(1024 * KIB, 64 * KIB);
    let greedy = accounts.account("greedy".into());
    let fill = || std::iter::from_fn(|| greedy.reserve_reply(32 * KIB));
    let mut held: Vec<_> = fill().take(16).collect();
    assert_eq!((held.len(), greedy.bytes()), (16, 512 * KIB));
    assert!(!greedy.is_overdrawn());
    held.extend(fill());
    assert_eq!(held.len(), 32);
    assert!(greedy.is_overdrawn());
    assert_eq!(accounts.bytes(), 1024 * KIB);
    let other = accounts.account("other".into());
    let others: Vec<_> = std::iter::from_fn(|| other.reserve_reply(32 * KIB)).collect();
    assert!(others.len() >= 8, "{}", others.len());
    drop((held, others));
    assert!(!greedy.is_overdrawn());
    assert_eq!(accounts.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_until_the_overdraft_of_their_peer_is_cleared() {
    let config = TransportConfig::lan();
    let accounts = accounts(128 * KIB, 64 * KIB);
    let peer = accounts.account("a".into());
    let stall_timer = StallTimer::new(&config, Arc::default());
    let mut held: Vec<_> = (0..4)
        .map(|_| peer.reserve_reply(20 * KIB).unwrap())
        .collect();
    assert!(peer.is_overdrawn());
    let [mut first, mut second] =
        [0, 1].map(|_| Box::pin(peer.wait_overdraft_cleared(&stall_timer)));
    assert_eq!((&mut first).now_or_never(), None);
    assert_eq!((&mut second).now_or_never(), None);
    held.remove(0);
    assert_eq!(first.await, Ok(()));
    assert_eq!(second.await, Ok(()));
    held.push(peer.reserve_reply(20 * KIB).unwrap());
    let began = tokio::time::Instant::now();
    assert_eq!(
        peer.wait_overdraft_cleared(&stall_timer).await,
        Err(Stalled),
        "nothing is taken"
    );
    assert_eq!(began.elapsed(), config.limits.stall_timeout);
}
