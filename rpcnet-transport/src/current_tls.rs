//! Current TLS identity of an endpoint, with its sessions.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    Tls, TransportConfig, quic,
    stats::Counters,
    tls::{ClientSessions, ServerSessions},
};

/// Current TLS identity of an endpoint, and the authorities that it trusts.
pub(crate) struct CurrentTls {
    current: Mutex<CurrentState>,
    /// Wakes the task that warns of the expiry.
    pub(crate) reloaded: Notify,
}

struct CurrentState {
    tls: Tls,
    /// Sessions of connections made under this identity.
    sessions: Arc<ClientSessions>,
    /// Settings for incoming connections; `None` when none are accepted any more.
    server: Option<quinn::ServerConfig>,
}

impl CurrentTls {
    /// Initial identity of an endpoint, and its settings for incoming connections.
    pub(crate) fn new(
        tls: Tls,
        config: &TransportConfig,
        counters: &Arc<Counters>,
    ) -> (Self, quinn::ServerConfig) {
        let server = quic::server_config(config, server_crypto(&tls, config, counters));
        let current = CurrentState {
            sessions: client_sessions(&tls, config),
            server: Some(server.clone()),
            tls,
        };
        let current = Self {
            current: Mutex::new(current),
            reloaded: Notify::new(),
        };
        (current, server)
    }

    pub(crate) fn current(&self) -> Tls {
        self.current.lock().tls.clone()
    }

    pub(crate) fn sessions(&self) -> Arc<ClientSessions> {
        Arc::clone(&self.current.lock().sessions)
    }

    /// Stops accepting connections, also after later reloads.
    pub(crate) fn close(&self, quinn: &quinn::Endpoint) {
        let mut current = self.current.lock();
        current.server = None;
        quinn.set_server_config(None);
    }

    /// Replaces the identity; `false` if the endpoint is closed.
    pub(crate) fn replace(
        &self,
        tls: Tls,
        quinn: &quinn::Endpoint,
        config: &TransportConfig,
        counters: &Arc<Counters>,
    ) -> bool {
        let mut current = self.current.lock();
        let Some(server) = &mut current.server else {
            return false;
        };
        // Everything but the identity stays, above all the key of the tokens with which callers
        // prove their address.
        let crypto = server_crypto(&tls, config, counters);
        server.crypto = quic::server_config(config, crypto).crypto;
        quinn.set_server_config(Some(server.clone()));
        current.sessions = client_sessions(&tls, config);
        current.tls = tls;
        drop(current);
        self.reloaded.notify_one();
        true
    }
}

/// TLS settings for incoming connections, with a session cache of their own: sessions of another
/// identity are not resumed.
fn server_crypto(
    tls: &Tls,
    config: &TransportConfig,
    counters: &Arc<Counters>,
) -> rustls::ServerConfig {
    let lifetime = config.session_lifetime;
    let sessions = ServerSessions::new(lifetime, Arc::clone(counters));
    tls.server_config((!lifetime.is_zero()).then_some(sessions), config.early_data)
}

fn client_sessions(tls: &Tls, config: &TransportConfig) -> Arc<ClientSessions> {
    Arc::new(ClientSessions::new(tls.clone(), config.session_lifetime))
}
