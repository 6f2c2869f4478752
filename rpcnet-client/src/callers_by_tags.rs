//! Callers by tags: an allow table that asks the node registry.

use std::sync::Arc;

use rpcnet_registry::{Filter, FilterError, NodeRegistry};
use rpcnet_transport::Callers;

/// Callers of an [`AllowTable`](crate::AllowTable) by the tags of their nodes: those whose node, of
/// the name in the caller's certificate, is in the registry and matches this tag expression.
///
/// The registry is asked at every decision, so a change of tags counts as soon as this node knows
/// it. A caller whose node is unknown, has left or has failed is not matched; one that is suspect,
/// unreachable or draining is. Nor is any caller before the registry is
/// [started](NodeRegistry::start), or once it is dropped: it is not kept alive.
///
/// A node chooses its own tags. Where the key of the cluster is in more hands than a method may be
/// called by, decide by what the authority has put into the certificate: [`Callers::names`] or
/// [`Callers::uris`].
///
/// ```
/// use std::sync::Arc;
/// use rpcnet_client::registry::{NodeId, NodeInfo, NodeRegistry, StaticMembership};
/// use rpcnet_client::{AllowTable, callers_by_tags, transport::Peer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let addr = ([10, 0, 0, 1], 7946).into();
/// let gateway = NodeInfo::new(NodeId::new("gateway-1", 1), addr).with_tag("role", "gateway");
/// let nodes: StaticMembership = [gateway].into_iter().collect();
/// let registry = Arc::new(NodeRegistry::new(nodes));
/// registry.start().await;
///
/// let table = AllowTable::new().allow("Render/*", callers_by_tags(&registry, "role=gateway")?);
/// let decide = |name| table.decide("Render/frame", &Peer::new(name, addr));
/// assert!(decide("gateway-1").is_allowed());
/// assert!(!decide("worker-1").is_allowed());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`FilterError`] if the tag expression cannot be parsed.
pub fn callers_by_tags(registry: &Arc<NodeRegistry>, filter: &str) -> Result<Callers, FilterError> {
    let (registry, filter) = (Arc::downgrade(registry), filter.parse::<Filter>()?);
    Ok(Callers::matching(move |peer| {
        let nodes = registry.upgrade().map(|registry| registry.snapshot());
        let nodes = nodes.as_ref();
        nodes
            .and_then(|nodes| nodes.node(peer.name()))
            .is_some_and(|node| !node.state.is_gone() && filter.matches(&node.tags))
    }))
}

#[cfg(test)]
mod tests {
    use rpcnet_registry::{NodeId, NodeInfo, NodeState, StaticMembership, Tags};
    use rpcnet_transport::Peer;

    use super::*;

    #[tokio::test]
    async fn callers_are_matched_by_the_present_tags_and_state_of_their_nodes() {
        let addr = ([10, 0, 0, 1], 7946).into();
        let node = |name| NodeInfo::new(NodeId::new(name, 1), addr);
        let nodes = StaticMembership::new();
        nodes.insert(node("gateway-1").with_tag("role", "gateway"));
        nodes.insert(node("worker-1").with_tag("role", "worker"));
        let registry = Arc::new(NodeRegistry::new(nodes.clone()));
        let gateways = callers_by_tags(&registry, "role=gateway").expect("a valid filter");
        let all = callers_by_tags(&registry, "").expect("a valid filter");
        let has = |callers: &Callers, name: &str| callers.contains(&Peer::new(name, addr));
        assert!(!has(&gateways, "gateway-1"), "it is not started");
        registry.start().await;
        assert!(has(&gateways, "gateway-1") && has(&all, "gateway-1"));
        assert!(!has(&gateways, "worker-1") && has(&all, "worker-1"));
        assert!(!has(&gateways, "unknown") && !has(&all, "unknown"));

        nodes.set_tags("worker-1", Tags::from([("role", "gateway")]));
        nodes.set_tags("gateway-1", Tags::new());
        assert!(has(&gateways, "worker-1") && !has(&gateways, "gateway-1"));

        nodes.suspect("worker-1", 9.0);
        assert!(has(&gateways, "worker-1"), "it may be alive");
        nodes.fail("worker-1");
        let state = registry.snapshot().node("worker-1").map(|node| node.state);
        assert_eq!(state, Some(NodeState::Failed));
        assert!(!has(&gateways, "worker-1"));
        nodes.recover("worker-1");
        assert!(has(&gateways, "worker-1"));
        nodes.remove("worker-1");
        assert!(!has(&gateways, "worker-1") && !has(&all, "worker-1"));

        assert!(has(&all, "gateway-1"));
        drop(registry);
        assert!(!has(&all, "gateway-1"), "the registry is gone");
    }

    #[test]
    fn a_malformed_filter_is_an_error() {
        let registry = Arc::new(NodeRegistry::new(StaticMembership::new()));
        let error = callers_by_tags(&registry, "role==gateway").expect_err("two signs");
        assert_eq!(error.position(), 5);
    }
}
