//! What an endpoint counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What an endpoint has counted since it was opened. Numbers only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportStats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        /// What several endpoints have counted together.
        impl std::iter::Sum for TransportStats {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::default(), |sum, one| Self {
                    $($name: sum.$name + one.$name,)+
                })
            }
        }

        /// The living counters behind [`TransportStats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> TransportStats {
                TransportStats { $($name: self.$name.value(),)+ }
            }
        }
    };
}

counters! {
    /// Connections that clients made to this endpoint, with both certificates verified.
    connections_accepted,
    /// Handshakes that began from a session of an earlier connection to this endpoint.
    sessions_resumed,
    /// Connections that this endpoint made.
    connections_opened,
    /// Times that the endpoint took a new identity.
    tls_reloads,
    /// New identities that were not fit to be taken; the old one stayed.
    tls_reloads_refused,
    /// Handshakes turned away before they cost anything: too many at a time, too many connections, not
    /// serving yet, or stopping.
    handshakes_refused,
    /// Handshakes sent back to prove their address.
    handshakes_retried,
    /// Connections refused because their peer had its share of `connections_max`; those that come
    /// when all peers together have that many are among `handshakes_refused`.
    connections_refused,
    /// Handshakes that failed: a certificate of another CA or none, another protocol, or silence.
    handshakes_failed,
    /// Connections whose early calls the server did not take, so that they were made again.
    early_data_rejected,
    /// Connections of nodes that the [authorizer](crate::TransportConfig::with_authorizer) does not let in.
    connections_denied,
    /// Connections that [`Endpoint::disconnect`](crate::Endpoint::disconnect) ended, handshakes of a
    /// node that was disconnected meanwhile included.
    connections_disconnected,
    /// Calls handed to a handler.
    calls_started,
    /// Calls whose handler's answer was sent in whole; if it had a stream of its own, also acknowledged if the caller lived to do
    /// so.
    calls_completed,
    /// Calls given up by their caller or by a shutdown at its deadline.
    calls_cancelled,
    /// Calls cut by their deadline on the server.
    calls_timed_out,
    /// Calls taken before the handshake was over, of methods that are replay-safe.
    calls_early,
    /// Calls refused before the handshake was over, of methods that are not.
    calls_refused_early,
    /// Calls refused because the server was draining.
    calls_refused_draining,
    /// Calls refused because there were too many at a time, or no room for their bytes: at once or
    /// after they had waited.
    calls_refused_overloaded,
    /// Replies and messages of streams that were dropped because their caller had left too much of
    /// earlier ones unread.
    replies_dropped,
    /// Calls that had to wait for a place, at their method's limit or the server's.
    calls_queued,
    /// Calls refused after they had waited: too long, or for calls that matter more. They count as refused too.
    calls_shed,
    /// Calls whose deadline passed before their handlers began, which they never did.
    calls_expired,
    /// Calls answered with the remembered reply of an earlier call with the same idempotency key.
    keys_answered,
    /// Calls that waited for the end of an earlier one with the same idempotency key.
    keys_joined,
    /// Calls of a method that there is not.
    unknown_methods,
    /// Handlers that panicked.
    handler_panics,
    /// Streams that began with something else than this protocol.
    bad_prefaces,
    /// Streams whose bytes were no frames, or frames that did not belong there.
    malformed_frames,
    /// Messages past the limit.
    oversized_messages,
    /// Requests whose body, or a message of whose stream, did not decode, or whose kind did not fit the method.
    invalid_requests,
    /// Streams reset because their request's header did not come in time.
    header_timeouts,
    /// Calls cut because their caller stopped sending its request or taking its answer.
    stalled_calls,
    /// Datagrams handed to the side channel.
    side_received,
    /// Datagrams of the side channel dropped because nobody reads it, or not fast enough.
    side_dropped,
    /// Datagrams of the side channel dropped because its reader does not
    /// [recognize](crate::SideChannel::with_recognizer) them, and others like them waited already.
    side_unrecognized,
    /// Datagrams of the side channel past their size limit, and empty ones.
    side_unfit,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
