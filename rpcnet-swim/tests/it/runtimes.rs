//! A node used outside of the runtime that drives it.

use rpcnet_swim::{
    ClusterConfig, ClusterMembership, JoinError, JoinOutcome, MembershipState, StartError,
};
use rpcnet_testing::{block_on, within};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_start_outside_of_a_runtime_is_an_error() {
    let started = block_on(ClusterMembership::new(ClusterConfig::local()));
    assert!(matches!(started, Err(StartError::NoRuntime)));
}

#[test]
fn a_thread_without_a_runtime_may_join_and_leave() {
    let runtime = runtime();
    let start = || runtime.block_on(ClusterMembership::new(ClusterConfig::local()));
    let (first, second) = (start().unwrap(), start().unwrap());
    let seed = first.local_addr().to_string();
    assert_eq!(
        block_on(second.join([seed])).unwrap(),
        JoinOutcome::Complete
    );
    assert_eq!(block_on(second.leave()).unwrap(), 1);
}

#[test]
fn every_wait_ends_with_the_runtime_of_the_node() {
    let (killed, ours) = (runtime(), runtime());
    let node = killed
        .block_on(ClusterMembership::new(ClusterConfig::local()))
        .unwrap();
    ours.block_on(async {
        // Nothing answers there.
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let seed = silent.local_addr().unwrap().to_string();
        let joining = tokio::spawn({
            let (node, seed) = (node.clone(), seed.clone());
            async move { node.join([seed]).await }
        });
        let mut events = node.subscribe();
        let mut first = [0; 2_048];
        silent.recv(&mut first).await.unwrap();
        killed.shutdown_background();
        within(async {
            assert!(matches!(joining.await.unwrap(), Err(JoinError::Stopped)));
            while events.recv().await.is_some() {}
            assert!(matches!(node.join([seed]).await, Err(JoinError::Stopped)));
            let _ = node.leave().await;
        })
        .await;
        assert_eq!(node.state(), MembershipState::Stopped);
    });
}
