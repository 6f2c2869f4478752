//! Accepted connection: its streams, the announcements of the server, and its end.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep_until, timeout};

use super::{caller::Caller, control_stream::ControlStream, stream_dispatch::spawn_stream};
use crate::{
    close::{CLOSE_DISCONNECTED, CLOSE_SHUTDOWN, close_at_once},
    endpoint::EndpointShared,
    quic,
    runtime::CloseOnRuntimeEnd,
};

/// A connection whose caller is authorized.
pub(super) struct AcceptedConnection {
    pub(super) caller: Arc<Caller>,
    pub(super) control: ControlStream,
    /// Streams of the connection that were accepted already.
    pub(super) streams_accepted: u64,
}

impl AcceptedConnection {
    /// Accepts the streams of the connection until the connection or the endpoint ends, and
    /// announces draining.
    pub(super) async fn serve(self, shared: Arc<EndpointShared>) {
        let mut draining_changed = shared.lifecycle.drain_changed.subscribe();
        let Self {
            caller,
            mut control,
            mut streams_accepted,
        } = self;
        let mut guard = CloseOnRuntimeEnd::new(caller.connection.clone(), shared.runtime.clone());
        let code = loop {
            let is_waiting = control.update(shared.lifecycle.is_draining());
            tokio::select! {
                biased;
                () = shared.lifecycle.stopped.cancelled() => break CLOSE_SHUTDOWN,
                () = caller.disconnected() => break CLOSE_DISCONNECTED,
                Ok(()) = draining_changed.changed() => {}
                () = sleep_until(control.announce_from()), if is_waiting => {}
                sent = control.send(), if control.is_sending() => if let Err(e) = sent {
                    // The caller does not read the stream. It learns of the drain when its calls
                    // are rejected.
                    tracing::debug!(peer = %caller.peer, error = %e, "draining state not sent");
                },
                stream = caller.connection.accept_bi() => match stream {
                    Ok(stream) => {
                        streams_accepted += 1;
                        spawn_stream(&shared, &caller, stream, None);
                    }
                    Err(e) => {
                        let error = quic::with_printable_reason(e);
                        tracing::debug!(peer = %caller.peer, %error, "connection ended");
                        guard.disarm();
                        return;
                    }
                },
            }
        };
        // The count tells the caller which of its streams were never accepted.
        close_at_once(&caller.connection, code, &streams_accepted.to_le_bytes());
        // After the close, so that the calls end with its reason and not with that of a stream
        // reset.
        caller.abort();
        let _ = timeout(STREAM_END_TIMEOUT, caller.streams.wait_for_zero()).await;
        guard.disarm();
    }
}

/// How long the tasks of the streams of a closed connection may take to end. A handler may block.
const STREAM_END_TIMEOUT: Duration = Duration::from_millis(100);
