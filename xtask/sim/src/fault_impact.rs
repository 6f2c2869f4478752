//! Impact of a fault: members held failed, transitions, and traffic.

use rpcnet_swim::{MemberState, Time};
use rpcnet_swim_sim::SimReport;

use crate::{detector::Cluster, measure::Sample};

/// Counts from a moment on.
#[derive(Debug)]
pub(crate) struct ImpactMeter {
    begin: Time,
    before: SimReport,
    transitions: usize,
}

impl ImpactMeter {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            begin: cluster.now(),
            before: cluster.report(),
            transitions: cluster.transitions().len(),
        }
    }

    /// Impact since the meter was made. Members are healthy or faulty by what the scenario does to
    /// them: `faulty` marks those.
    pub(crate) fn read(&self, cluster: &Cluster, faulty: &[bool]) -> Sample {
        let after = cluster.report();
        let node_seconds = cluster.now().since(self.begin).as_secs_f64() * faulty.len() as f64;
        let suspicions = after.suspicions - self.before.suspicions;
        let messages = (after.sent - self.before.sent) as f64;
        let bytes = (after.sent_bytes - self.before.sent_bytes) as f64;
        let since = &cluster.transitions()[self.transitions..];
        // Of those whose (failure, faulty subject, faulty observer) is as it says.
        let count = |is: fn(bool, bool, bool) -> bool| {
            let counted = since.iter().filter(|it| {
                let is_failure = it.to == MemberState::Failed;
                let [subject, observer] = [it.subject, it.observer].map(|it| faulty[it as usize]);
                is(is_failure, subject, observer)
            });
            counted.count() as f64
        };
        let faulty_count = faulty.iter().filter(|it| **it).count();
        let pairs = (faulty_count * (faulty.len() - faulty_count)).max(1) as f64;
        let of_faulty_at_healthy = count(|_, subject, observer| subject && !observer);
        let healthy_at_healthy =
            count(|failure, subject, observer| failure && !subject && !observer);
        Sample::default()
            // Failures held of healthy members, in all views.
            .with(
                "false_failed_healthy",
                count(|failure, subject, _| failure && !subject),
            )
            // Failures of healthy members in the views of healthy members.
            .with("false_failed_healthy_at_healthy", healthy_at_healthy)
            // Failures held of faulty members, in all views.
            .with(
                "failed_faulty",
                count(|failure, subject, _| failure && subject),
            )
            // Failures and returns, in a healthy member's view of a faulty one, on average.
            .with("transitions_per_faulty", of_faulty_at_healthy / pairs)
            .with("suspicions", suspicions as f64)
            .with("messages", messages)
            .with("bytes", bytes)
            .with("sent_per_node_s", messages / node_seconds)
            .with("sent_bytes_per_node_s", bytes / node_seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rpcnet_swim::ClusterConfig;

    use super::*;
    use crate::detector::Detector;

    #[test]
    fn a_blocked_member_holds_others_failed_and_is_held_failed() {
        // Without the witness, so that there is something to count.
        let (config, swim) = (ClusterConfig::lan(), Detector::named("swim").unwrap());
        let mut cluster = Cluster::formed_with_detector(1, 8, config, swim);
        cluster.run_for(Duration::from_secs(5));
        let meter = ImpactMeter::new(&cluster);
        cluster.block(2);
        cluster.run_for(Duration::from_secs(30));
        let mut faulty = vec![false; 8];
        faulty[2] = true;
        let impact = meter.read(&cluster, &faulty);
        let figure = |name| impact.values(name)[0];
        assert_eq!(
            figure("failed_faulty"),
            7.0,
            "each of the others holds it failed"
        );
        assert_eq!(figure("false_failed_healthy"), 7.0, "and it all of them");
        assert_eq!(figure("false_failed_healthy_at_healthy"), 0.0);
        assert_eq!(figure("transitions_per_faulty"), 1.0);
        assert!(figure("messages") > 8.0 * 30.0);
        assert!(figure("bytes") > 28.0 * figure("messages"));
        assert_eq!(figure("sent_per_node_s"), figure("messages") / 240.0);
        assert_eq!(figure("sent_bytes_per_node_s"), figure("bytes") / 240.0);
        // A second meter counts from its own beginning.
        let none = ImpactMeter::new(&cluster).read(&cluster, &faulty);
        for name in [
            "failed_faulty",
            "transitions_per_faulty",
            "suspicions",
            "bytes",
        ] {
            assert_eq!(none.values(name), [0.0]);
        }
    }
}
