//! Setters of the general settings.

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    AsyncClientLayer, ClientLayer, PeerIdentity, authorize::Authorizer, config::TransportConfig,
};

/// General settings.
impl TransportConfig {
    /// Largest message that is accepted or sent, in bytes; default 16 MiB. The limit is checked
    /// before anything is allocated. A smaller value protects memory (concurrent calls times this),
    /// a larger one allows larger bodies.
    #[must_use]
    pub fn with_message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Default timeout of a unary call; default 10 s. For a streaming call it is the time to send
    /// its request; afterwards the call has no deadline unless the caller sets one. See
    /// [`CallOptions`](crate::CallOptions).
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Time limit of a handshake, on both sides; default 5 s (10 s in [`wan`](Self::wan)).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Session lifetime: how long a session can be resumed, at a caller since the last full
    /// handshake with the node, at a server since the last handshake of the session; default an
    /// hour, at most a day, zero for never. A resumed handshake needs no signatures, and is what
    /// [`connect_early`](crate::Endpoint::connect_early) requires. The certificates of both sides
    /// are verified again each time; possession of the keys is not, so a larger value gives more
    /// time to an attacker who steals a session from a caller's memory.
    #[must_use]
    pub fn with_session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// Busy polling: how long a thread spins at most for further packets before it sleeps, after it
    /// sent or served a request; default 400 us, zero in [`wan`](Self::wan). Zero turns it off:
    /// `with_busy_poll(Duration::ZERO)`. A sleeping thread takes 10 to 60 us to wake, more than a
    /// call within a data centre takes otherwise; a spinning one occupies its core.
    ///
    /// Within this bound the limit is twice what a wake-up costs on this machine, which is measured
    /// at the first use and then once a minute at most, and 50 us for the way and the work: so long
    /// a peer takes that sleeps itself. Where it does not pay, because packets do not arrive in
    /// time or both ends share a core, it is soon tried at one of 1,024 occasions only. It is off
    /// where spinning takes time from others: under a quota of CPU time (cgroups), and in a virtual
    /// machine whose host has taken more than a tenth of its busy time since the last measurement.
    /// [`Endpoint::busy_poll_state`](crate::Endpoint::busy_poll_state) says which.
    ///
    /// On a current-thread runtime, such as those of [`Shards`](crate::Shards), the thread runs its
    /// other tasks meanwhile. On a multi-thread runtime with two threads or more, one of them does
    /// nothing else while it spins, and only for calls that are made one at a time.
    #[must_use]
    pub fn with_busy_poll(mut self, bound: Duration) -> Self {
        self.busy_poll = bound;
        self
    }

    /// Whether a server accepts early data (0-RTT): calls of known callers before the handshake is
    /// complete, of methods that are declared [replay-safe](crate::Router::with_replay_safe);
    /// default `false`. It saves such a call two round trips, at the price that an attacker on the
    /// path may be able to replay it. Without it, early calls are answered after the handshake,
    /// like all others.
    #[must_use]
    pub fn with_early_data(mut self, accepted: bool) -> Self {
        self.early_data = accepted;
        self
    }

    /// Socket buffers to request from the operating system, in bytes for each direction; default 4
    /// MiB (8 MiB in [`bulk`](Self::bulk)). It may grant less (on Linux `net.core.rmem_max` and
    /// `net.core.wmem_max` decide, often 208 KiB), which is logged and shown by
    /// [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). A small buffer loses packets
    /// when many arrive between two polls of the endpoint; a large one costs memory only while it
    /// is full.
    #[must_use]
    pub fn with_socket_buffer_bytes(mut self, bytes: usize) -> Self {
        self.socket_buffer_bytes = bytes;
        self
    }

    /// Queue of the side channel, in datagrams that were not read yet; default 1,024. Further ones
    /// are dropped and counted.
    #[must_use]
    pub fn with_side_channel_len(mut self, datagrams: NonZeroUsize) -> Self {
        self.side_channel_len = datagrams;
        self
    }

    /// Largest datagram of the side channel, in bytes; default 2,048. Larger ones are dropped and
    /// counted. Values above 65,526 have no further effect.
    #[must_use]
    pub fn with_side_datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.side_datagram_bytes_max = bytes;
        self
    }

    /// Largest datagram that the side channel accepts, in bytes.
    #[must_use]
    pub fn side_datagram_bytes_max(&self) -> usize {
        self.side_datagram_bytes_max
    }

    /// Sets the function that decides whether a node may connect to this endpoint. It is called
    /// after the node's certificate was verified, at every connection (also one that resumes a
    /// session), and before anything of the node runs, early calls included. It has to be quick and
    /// must not block. By default every node with a certificate of the cluster's authority may
    /// connect. The function sees the name, the address and the
    /// [identity](PeerIdentity::identity) of the node; which methods it may call is what an
    /// [`AllowTable`](crate::AllowTable) decides.
    ///
    /// To deny a node, the function returns the reason, which the node is told: it gets
    /// [`ConnectError::Denied`](crate::ConnectError::Denied), its calls
    /// [`Code::PermissionDenied`](crate::Code::PermissionDenied). The denial counts in
    /// [`connections_denied`](crate::TransportStats::connections_denied). Open connections are not
    /// affected when the answer changes; [`Endpoint::disconnect`](crate::Endpoint::disconnect)
    /// closes them.
    ///
    /// ```
    /// use rpcnet_transport::{PeerIdentity, TransportConfig};
    ///
    /// let config = TransportConfig::lan().with_authorizer(|node: &PeerIdentity<'_>| {
    ///     match node.peer().name().starts_with("retired-") {
    ///         true => Err("this node is retired".to_owned()),
    ///         false => Ok(()),
    ///     }
    /// });
    /// # drop(config);
    /// ```
    #[must_use]
    pub fn with_authorizer(
        mut self,
        authorizer: impl Fn(&PeerIdentity<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.authorizer = Some(Authorizer::new(authorizer));
        self
    }

    /// Adds a layer around the calls that the endpoint makes. It runs after the layers that were
    /// added before it. Layers of the calls that an endpoint serves are those of its
    /// [router](crate::Router::layer).
    #[must_use]
    pub fn with_client_layer(mut self, layer: impl ClientLayer) -> Self {
        self.client_layers = self.client_layers.with(layer);
        self
    }

    /// Adds an asynchronous layer, like [`with_client_layer`](Self::with_client_layer).
    #[must_use]
    pub fn with_async_client_layer(mut self, layer: impl AsyncClientLayer) -> Self {
        self.client_layers = self.client_layers.with_async(layer);
        self
    }
}
