//! Seeds that are no use.

#![cfg(feature = "tokio")]

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, ClusterMembership, JoinError, SeedFailure};

#[tokio::test]
async fn a_node_whose_seeds_do_not_resolve_is_not_in_and_says_why() {
    let config = ClusterConfig::local()
        .with_join_timeout(Duration::from_millis(500))
        .with_seeds(["no port"]);
    let node = ClusterMembership::new(config).await.unwrap();
    for _ in 0..2 {
        let error = node.join(["seed.invalid"]).await.unwrap_err();
        let JoinError::NoSeedAnswered { seeds } = error else {
            panic!("{error}");
        };
        assert_eq!(seeds.len(), 2);
        assert!(
            matches!(&seeds[0], (text, SeedFailure::Unresolved(_)) if text == "no port"),
            "{seeds:?}"
        );
    }
    // It goes on trying: with a seed that is there, it is in.
    let other = ClusterMembership::new(ClusterConfig::local())
        .await
        .unwrap();
    node.join([other.local_addr().to_string()]).await.unwrap();
}
