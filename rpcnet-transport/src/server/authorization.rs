//! Authorization of callers: the end of the handshake, the certificate, and the authorizer.

use std::sync::Arc;

use quinn::ConnectionError;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use super::{
    accepted_connection::AcceptedConnection, caller::Caller, control_stream::ControlStream,
    early_data,
};
use crate::{
    Peer, PeerIdentity,
    addr::canonical,
    close::{
        CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_DONE, CLOSE_NO_NAME, CLOSE_TOO_MANY,
        CLOSE_UNTRUSTED, close_at_once,
    },
    connections::PendingHandshake,
    endpoint::EndpointShared,
    quic::certificate_chain,
    tls::{self, Identity},
};

/// Outcome of a handshake with a valid certificate.
pub(super) enum HandshakeOutcome {
    Accepted(AcceptedConnection),
    Denied { peer: Peer, reason: String },
}

/// Waits for the end of a handshake, and meanwhile serves early data if it is enabled.
pub(super) async fn complete_handshake(
    shared: &Arc<EndpointShared>,
    mut connecting: quinn::Connecting,
    pending: &PendingHandshake,
) -> Result<HandshakeOutcome, ConnectionError> {
    let deadline = Instant::now() + shared.config.connect_timeout;
    let timed_out = |_| ConnectionError::TimedOut;
    // The first flight of the caller decides whether a session is resumed.
    timeout_at(deadline, connecting.handshake_data())
        .await
        .map_err(timed_out)??;
    let Ok((connection, completed)) = connecting.into_0rtt() else {
        unreachable!("a server may always write before the handshake is over");
    };
    let mut abandoned = CloseOnDrop(Some(connection.clone()));
    let outcome = authorize(shared, connection, completed, pending, deadline).await?;
    abandoned.0 = None;
    Ok(outcome)
}

/// Closes a connection whose handshake is abandoned: early calls may still hold it.
struct CloseOnDrop(Option<quinn::Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            close_at_once(connection, CLOSE_DONE, b"the handshake was abandoned");
        }
    }
}

/// Decides whether a caller may connect, once its certificate is known.
async fn authorize(
    shared: &Arc<EndpointShared>,
    connection: quinn::Connection,
    completed: quinn::ZeroRttAccepted,
    pending: &PendingHandshake,
    deadline: Instant,
) -> Result<HandshakeOutcome, ConnectionError> {
    let timed_out = |_| ConnectionError::TimedOut;
    // Certificates that are known by now are those of a resumed session, which TLS does not verify
    // again.
    let resumed = certificate_chain(&connection);
    let tls = shared.dialer.tls.current();
    let trusts = |chain: &Vec<_>| tls.verifies_caller(chain, tls.now());
    let is_trusted = resumed.as_ref().is_none_or(trusts);
    let resumed = resumed.filter(|_| is_trusted && shared.config.early_data);
    let resumed =
        resumed.and_then(|chain| VerifiedCaller::new(shared, &connection, &chain, pending).ok());
    let mut early = None;
    if let Some(VerifiedCaller { caller, denial }) = resumed {
        if let Err(denial) = denial {
            // A close before the end of the handshake carries no reason.
            timeout_at(deadline, completed).await.map_err(timed_out)?;
            return Ok(deny(shared, &caller, denial));
        }
        let control = ControlStream::open(shared, &connection).await;
        let control = control.ok_or(ConnectionError::TimedOut)?;
        let streams_accepted =
            early_data::serve_early_streams(shared, &caller, completed, deadline).await;
        early = Some(AcceptedConnection {
            caller,
            control,
            streams_accepted,
        });
    } else {
        timeout_at(deadline, completed).await.map_err(timed_out)?;
    }
    if !is_trusted {
        let reason = b"the certificate is not trusted";
        close_at_once(&connection, CLOSE_UNTRUSTED, reason);
    }
    if let Some(reason) = connection.close_reason() {
        return Err(reason);
    }
    if let Some(accepted) = early {
        return Ok(HandshakeOutcome::Accepted(accepted));
    }
    let chain = certificate_chain(&connection).unwrap_or_default();
    let verified = VerifiedCaller::new(shared, &connection, &chain, pending).map_err(|fault| {
        close_at_once(&connection, CLOSE_NO_NAME, fault.reason().as_bytes());
        ConnectionError::LocallyClosed
    });
    let VerifiedCaller { caller, denial } = verified?;
    if let Err(denial) = denial {
        return Ok(deny(shared, &caller, denial));
    }
    let control = ControlStream::open(shared, &connection).await;
    Ok(HandshakeOutcome::Accepted(AcceptedConnection {
        control: control.ok_or(ConnectionError::TimedOut)?,
        caller,
        streams_accepted: 0,
    }))
}

/// A caller with a verified certificate, and whether it may connect.
struct VerifiedCaller {
    caller: Arc<Caller>,
    denial: Result<(), Denial>,
}

/// Reason for which a caller with a valid certificate is denied.
enum Denial {
    /// The authorizer denied it.
    Unauthorized(String),
    /// Its node has as many connections as one node may have, or all nodes together have.
    TooManyConnections,
    /// Its node was disconnected since the handshake began.
    Disconnected,
}

impl VerifiedCaller {
    fn new(
        shared: &EndpointShared,
        connection: &quinn::Connection,
        chain: &[CertificateDer<'_>],
        pending: &PendingHandshake,
    ) -> Result<Self, tls::CertificateNameError> {
        let certificate = chain.first().ok_or(tls::CertificateNameError::NoName)?;
        let identity = Identity::read(certificate)?;
        let name = tls::node_name(&identity)?;
        let addr = canonical(connection.remote_address());
        let peer = Peer::new(name, addr);
        peer.set_identity(identity.clone());
        // Registered before it is checked: a caller that is disconnected meanwhile is caught by one
        // of the two.
        let caller = Arc::new(Caller::new(shared, connection.clone(), peer));
        let identity = PeerIdentity {
            peer: &caller.peer,
            identity: &identity,
        };
        let authorizer = shared.config.authorizer.as_ref();
        let mut denial = match authorizer.map_or(Ok(()), |authorizer| authorizer.check(&identity)) {
            Ok(()) => Ok(()),
            Err(reason) => Err(Denial::Unauthorized(reason)),
        };
        if denial.is_ok() && !caller.is_counted() {
            denial = Err(Denial::TooManyConnections);
        }
        if denial.is_ok() && pending.is_refused(caller.peer.name()) {
            denial = Err(Denial::Disconnected);
        }
        if let (Ok(()), Some(admission)) = (&denial, &caller.admission) {
            admission.record_connected();
        }
        Ok(Self { caller, denial })
    }
}

/// Closes the connection of a denied caller, with the reason.
fn deny(shared: &EndpointShared, caller: &Caller, denial: Denial) -> HandshakeOutcome {
    let (counter, code, reason) = match denial {
        Denial::Unauthorized(reason) => (&shared.counters.connections_denied, CLOSE_DENIED, reason),
        Denial::TooManyConnections => (
            &shared.counters.connections_refused,
            CLOSE_TOO_MANY,
            match shared.accounts.has_connection_left() {
                true => "too many connections of this node",
                false => "too many connections of all nodes",
            }
            .to_owned(),
        ),
        Denial::Disconnected => (
            &shared.counters.connections_disconnected,
            CLOSE_DISCONNECTED,
            "disconnected during the handshake".to_owned(),
        ),
    };
    counter.add_one();
    close_at_once(&caller.connection, code, reason.as_bytes());
    HandshakeOutcome::Denied {
        peer: caller.peer.clone(),
        reason,
    }
}
