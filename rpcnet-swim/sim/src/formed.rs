//! Formed clusters, in which all nodes know each other from the start.

use rpcnet_swim::ClusterConfig;
use rpcnet_swim::unstable::{DetectorHooks, PhiSwim, Record};

use super::Cluster;
use super::cluster::default_seeds;

impl Cluster {
    /// `count` nodes `n0`, `n1` ... that know each other as alive at time zero, as if the cluster
    /// had run for long: each learnt of every other one as by a sync, and has no gossip to pass on
    /// and no events to report. They have the first three as seeds.
    ///
    /// Far cheaper than a bootstrap, in which `count` squared updates pass from node to node; for
    /// scenarios that are not about joining. Rounds of probes start at random within the first
    /// interval. As no node has heard another yet, round-trip times and loss are as assumed.
    ///
    /// # Panics
    /// If the configuration is invalid.
    #[must_use]
    pub fn formed(seed: u64, count: usize, config: ClusterConfig) -> Self {
        Self::formed_with_detector(seed, count, config, PhiSwim)
    }
}

impl<D: DetectorHooks> Cluster<D> {
    /// Formed cluster of another failure detector, else as [`Cluster::formed`].
    ///
    /// # Panics
    /// If the configuration is invalid.
    pub fn formed_with_detector(
        seed: u64,
        count: usize,
        config: ClusterConfig,
        detector: D,
    ) -> Self {
        let mut cluster = Self::with_detector(seed, detector);
        cluster.check_every = count as u64;
        let engines: Vec<_> = (0..count)
            .map(|n| {
                let node = cluster.add_slot(format!("n{n}"), config.clone(), default_seeds(count));
                let epoch = cluster.next_epoch();
                cluster.new_engine(node, epoch)
            })
            .collect();
        // In the order of keys, which is the cheapest to build tables from.
        let mut records: Vec<(u64, Record)> = engines
            .iter()
            .map(|engine| engine.record())
            .map(|record| (record.key(), record))
            .collect();
        records.sort_unstable_by_key(|(key, _)| *key);
        for (node, mut engine) in engines.into_iter().enumerate() {
            engine.preload_members(cluster.now, records.iter().map(|(_, record)| record));
            engine.handle_seeds(cluster.now, &default_seeds(count));
            cluster.nodes[node].steps = 1;
            cluster.install_engine(node, engine);
        }
        cluster
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rpcnet_swim::MemberState;
    use rpcnet_swim::unstable::encoded_tags;
    use rpcnet_swim::{DropCounters, Tags};

    use super::*;
    use crate::OpenDirection;
    use crate::cluster::addr_of;

    #[test]
    fn a_formed_cluster_is_converged_and_has_no_gossip() {
        let mut cluster = Cluster::formed(3, 20, ClusterConfig::lan());
        assert!(cluster.is_converged(), "{:?}", cluster.difference());
        assert_eq!(cluster.report().sent, 0);
        cluster.run_for(Duration::from_secs(60));
        cluster.expect_safe();
        assert!(cluster.is_converged());
        assert_eq!(cluster.report().suspicions, 0);
        for node in 0..20 {
            assert_eq!(cluster.events(node), []);
            let engine = cluster.engine(node).unwrap();
            assert!(engine.is_joined());
            let stats = engine.stats();
            assert_eq!((stats.syncs, stats.dropped), (0, DropCounters::default()));
        }
    }

    #[test]
    fn a_formed_cluster_behaves_like_a_bootstrapped_one() {
        let mut cluster = Cluster::formed(3, 20, ClusterConfig::lan());
        cluster.run_for(Duration::from_secs(5));
        cluster.crash(4);
        cluster.run_for(Duration::from_secs(8));
        let failed = |node: &usize| {
            let seen = cluster.view_of(*node, 4);
            seen.is_some_and(|member| member.state == MemberState::Failed)
        };
        assert_eq!((0..20).filter(failed).count(), 19);
        cluster.restart(4);
        cluster.add("later", ClusterConfig::lan(), vec![addr_of(0)]);
        let took = cluster.run_until(Duration::from_secs(20), Cluster::is_converged);
        took.expect("both are in");
        cluster.expect_safe();
    }

    #[test]
    fn a_formed_cluster_runs_the_same_for_the_same_seed() {
        let trace = |seed| {
            let mut cluster = Cluster::formed(seed, 100, ClusterConfig::lan());
            cluster.network().set_three_zones(100);
            cluster.network().set_ingress_loss(7, 0.5);
            cluster.slow(3, Duration::from_millis(100));
            cluster.half_block(4, OpenDirection::SendOnly);
            cluster.crash(5);
            cluster.run_for(Duration::from_secs(15));
            cluster.expect_safe();
            (cluster.report(), cluster.take_transitions())
        };
        let first = trace(1);
        assert!(!first.1.is_empty());
        assert_eq!(trace(1), first);
        assert_ne!(trace(2).0.trace, first.0.trace);
    }

    #[test]
    fn rounds_do_not_start_together() {
        let mut cluster = Cluster::formed(3, 100, ClusterConfig::lan());
        let mut sent = 0;
        for _ in 0..10 {
            cluster.run_for(Duration::from_millis(100));
            let now = cluster.report().sent;
            assert!((10..80).contains(&(now - sent)), "{}", now - sent);
            sent = now;
        }
    }

    #[test]
    fn all_views_share_names_and_tags() {
        let tags = Tags::from_pairs([("role", "worker")]).unwrap();
        let config = ClusterConfig::lan().with_tags(tags);
        let mut found = Cluster::bootstrap(3, 5, config.clone());
        found.run_for(Duration::from_secs(5));
        // A tag update comes from another record than the first one.
        found.set_tag(4, "role", "leader").unwrap();
        found.run_for(Duration::from_secs(5));
        for cluster in [found, Cluster::formed(3, 5, config)] {
            let seen = |node: usize| cluster.view_of(node, 4).unwrap();
            let (one, other) = (seen(0), seen(1));
            assert!(Arc::ptr_eq(&one.id.name, &other.id.name));
            assert!(!one.tags.is_empty());
            assert_eq!(
                encoded_tags(&one.tags).as_ptr(),
                encoded_tags(&other.tags).as_ptr()
            );
        }
    }
}
