//! Settings and ends for tests of failures: the wall clock, the seed, a crash.

use std::time::{Duration, SystemTime};

use rpcnet_swim::{ClusterMembership, MemberState, MembershipState};
use rpcnet_testing::{until, within};

use super::local;

#[tokio::test]
async fn the_epoch_of_a_node_is_the_wall_clock_of_its_configuration() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567);
    let node = ClusterMembership::new(local("clocked").with_wall_clock(move || at));
    let node = within(node).await.expect("a node");
    assert_eq!(node.local_id().epoch, 1_234_567);
}

#[tokio::test]
async fn the_others_find_an_aborted_node_failed() {
    let start = |name: &str| ClusterMembership::new(local(name));
    let first = within(start("first")).await.expect("a node");
    let second = within(start("second")).await.expect("a node");
    let joined = second.join([first.local_addr().to_string()]);
    within(joined).await.expect("it is let in");
    second.abort();
    let stopped = || second.state() == MembershipState::Stopped;
    until("its driver ends", stopped).await;
    let state = || {
        let members = first.members();
        let found = members.iter().find(|member| &*member.id.name == "second");
        found.map(|member| member.state)
    };
    until("it is failed", || state() == Some(MemberState::Failed)).await;
}
