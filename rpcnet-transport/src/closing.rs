//! Closing a connection so that the other side hears of it.

use std::time::Duration;

use quinn::VarInt;
use tokio::time::{sleep, timeout};

use crate::gauge::Gauge;

/// Closes a connection whose streams are being reset, when the last of them is gone and what was under way has had time to be
/// acknowledged.
///
/// QUIC sends the close only if the congestion window has room, and from then on looks at no acknowledgement (quinn-proto 0.11).
/// So the close of a connection that is busy sending would never leave.
pub(crate) async fn close_after_load(
    connection: &quinn::Connection,
    streams: &Gauge,
    code: VarInt,
    reason: &[u8],
) {
    let closed = async {
        let _ = timeout(RESET_MAX, streams.none()).await;
        // One round trip for what was sent last, and one for the resets that had to wait for it.
        sleep((2 * connection.rtt() + ACK_DELAY).min(DRAIN_MAX)).await;
    };
    tokio::select! {
        () = closed => connection.close(code, reason),
        _ = connection.closed() => {}
    }
}

/// How long the tasks of the streams may take to end; a handler may block.
const RESET_MAX: Duration = Duration::from_millis(100);

/// For as long as an acknowledgement may be held back (RFC 9000 section 18.2, max_ack_delay).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Upper bound of the wait before a close: for a peer so far away, or one that is gone, it is not worth more.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// The longest that [`close_after_load`] takes.
pub(crate) const CLOSE_MAX: Duration = Duration::from_millis(600);
