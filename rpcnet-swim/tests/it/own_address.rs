//! The address that a node on real sockets advertises.

use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::{AddressStatus, ClusterConfig, ClusterKey, ClusterMembership, Event};
use rpcnet_testing::{until, within};
use tokio::time::timeout;

fn config(name: &str, bind: &str) -> ClusterConfig {
    ClusterConfig::local()
        .with_name(name)
        .with_key(ClusterKey::from_bytes([7; 32]))
        .with_bind_addr(bind.parse().unwrap())
}

async fn start(config: ClusterConfig) -> ClusterMembership {
    ClusterMembership::new(config).await.expect("it starts")
}

/// The address of the node of this name in the view of `observer`.
fn addr_of(observer: &ClusterMembership, name: &str) -> Option<SocketAddr> {
    let mut members = observer.members().into_iter();
    let member = members.find(|member| &*member.id.name == name)?;
    member.state.is_live().then_some(member.addr)
}

/// That both are live in both views, at the addresses that lead to them.
async fn meet(first: &ClusterMembership, second: &ClusterMembership) {
    let is_met = |a: &ClusterMembership, b: &ClusterMembership| {
        addr_of(a, &b.local_id().name) == Some(b.local_addr())
            && a.address_status() == AddressStatus::Reachable
    };
    until("they reach each other", || {
        is_met(first, second) && is_met(second, first)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_given_to_join_decide_which_address_is_advertised() {
    let first = start(config("first", "127.0.0.1:0")).await;
    let second = start(config("second", "0.0.0.0:0")).await;
    second.join([first.local_addr().to_string()]).await.unwrap();
    assert_eq!(second.local_addr().ip(), first.local_addr().ip());
    meet(&first, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dual_stack_socket_advertises_the_family_of_its_seeds() {
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        return println!("skipped: no IPv6 on this host");
    }
    let first = start(config("first", "127.0.0.1:0")).await;
    let second = start(config("second", "[::]:0")).await;
    second.join([first.local_addr().to_string()]).await.unwrap();
    assert!(second.local_addr().is_ipv4(), "{}", second.local_addr());
    meet(&first, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_does_not_resolve_holds_up_no_start() {
    let first = start(config("first", "127.0.0.1:0")).await;
    let seeds = [
        "seed.invalid:7946".to_owned(),
        first.local_addr().to_string(),
    ];
    let config = config("second", "0.0.0.0:0").with_seeds(seeds);
    let starting = timeout(Duration::from_secs(3), start(config));
    let second = starting.await.expect("it does not wait for names");
    meet(&first, &second).await;
    assert!(second.local_addr().ip().is_loopback());
}

/// As a host file has it that maps the host name to 127.0.1.1: that one is this node itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_own_host_name_among_the_seeds_does_not_decide() {
    let port = {
        let free = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let alone = start(config("alone", &format!("0.0.0.0:{port}"))).await;
    let guess = alone.local_addr();
    alone.join([format!("127.0.1.1:{port}")]).await.ok();
    assert_eq!(alone.local_addr(), guess);
    assert_ne!(guess.ip().to_string(), "127.0.1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_address_is_reported_and_corrected_at_run_time() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let wrong = silent.local_addr().unwrap();
    let first = start(config("first", "127.0.0.1:0")).await;
    let second = start(config("second", "127.0.0.1:0").with_advertise_addr(wrong)).await;
    let mut events = second.subscribe();
    second.join([first.local_addr().to_string()]).await.unwrap();
    let reported = async {
        loop {
            let event = events.recv().await.expect("the node runs");
            if let Event::AddressUnreachable { addr, observed } = event {
                break (addr, observed);
            }
        }
    };
    let (addr, observed) = within(reported).await;
    assert_eq!(addr, wrong);
    let observed = observed.expect("the peer says what it sees");
    assert_eq!(second.address_status(), AddressStatus::Unreachable);
    second.set_advertise_addr(observed).unwrap();
    assert_eq!(second.local_addr(), observed);
    meet(&first, &second).await;
}
