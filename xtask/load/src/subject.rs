//! Subject of a measurement: an RPC library.

use std::{error::Error, fmt, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;

use crate::{Body, ClosedLoopState, Direction, Handshake, Load, Report, Setup};

/// Why a measurement could not be made.
pub type Failure = Box<dyn Error + Send + Sync>;

/// All calls of a closed loop, until it is over; the number of those that ended in the window.
pub type CallLoop = Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send>>;

/// An RPC library: how it serves an echo, connects and calls.
///
/// The value itself is the client: what connections are made from.
pub trait Subject: Sized + 'static {
    /// Connection of a client.
    type Caller: Caller;
    /// Value to keep while the subject serves.
    type Server: 'static;

    /// Serves an echo of bytes, on a port that the system chooses, in the runtime that it is called
    /// in.
    fn serve(setup: &Setup) -> impl Future<Output = Result<(SocketAddr, Self::Server), Failure>>;

    /// A client, made in the runtime that it is to run in.
    fn client(setup: &Setup) -> Result<Self, Failure>;

    /// A connection to the server.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = Result<Self::Caller, Failure>>;

    /// Items through one stream, for as long as the load says.
    fn stream(
        _caller: Self::Caller,
        _load: Load,
        _direction: Direction,
    ) -> impl Future<Output = Result<Report, Failure>> {
        async { Err("this subject's streams are not measured".into()) }
    }

    /// Times from the beginning of a connection to its first reply, of `count` connections.
    fn reconnects(
        _setup: &Setup,
        _addr: SocketAddr,
        _handshake: Handshake,
        _count: usize,
    ) -> impl Future<Output = Result<Report, Failure>> {
        async { Err("this subject's reconnects are not measured".into()) }
    }
}

/// Connection for any number of calls at a time.
pub trait Caller: Clone + Send + Sync + 'static {
    /// Why a call failed.
    type Error: fmt::Display + Send;

    /// Sends bytes, which are to come back.
    fn call(&self, body: Bytes) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// Makes the next call of a caller, and checks its reply.
    fn exchange(&self, body: &mut Body) -> impl Future<Output = Result<(), String>> + Send {
        async {
            let reply = self.call(body.advance()).await;
            body.check(&reply.map_err(|error| error.to_string())?)
        }
    }

    /// A loop that makes all calls of a closed loop itself. `None`, the default: the load starts a
    /// task for each call in flight, as a service with so many callers has.
    fn closed_loop(&self, _load: Load, _state: &Arc<ClosedLoopState>) -> Option<CallLoop> {
        None
    }
}

/// Name of the server in its certificate, and of its files.
pub const SERVER: &str = "server";

/// Name of the client in its certificate, and of its files.
pub const CLIENT: &str = "client";
