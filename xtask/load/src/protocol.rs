//! Messages between the processes of a measurement, a line of JSON each.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Quantiles;

/// Setup of a process: the first line that a server reads, and a part of a client's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Name of the subject: a library may be measured in several ways.
    pub subject: String,
    /// The folder with `ca.pem` and, for each side, `NAME.pem` and `NAME.key`.
    pub keys: PathBuf,
    /// The address to open ports at.
    pub ip: IpAddr,
    /// The core that the process is pinned to.
    pub core: Option<usize>,
    /// Runtime of both sides.
    pub runtime: Runtime,
    /// Calls at a time that limits have to allow.
    pub in_flight: usize,
    /// Length of the largest body that limits have to allow.
    pub body_bytes: usize,
    /// A server takes calls before the handshake is over.
    pub early_data: bool,
}

/// Assignment of a client: the line that it reads first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// Setup of the client.
    pub client: Setup,
    /// Setup of the server that it starts.
    pub server: Setup,
    /// Program and arguments of the server.
    pub server_command: Vec<String>,
    /// The client connects only after it has read a further line: a flood is to begin before.
    pub hold: bool,
    /// Calls go through a relay.
    pub relay: Option<Relay>,
    /// Measurement to make.
    pub job: Job,
}

/// Relay between client and server, with the same properties in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Datagrams lost, of a thousand.
    pub loss_per_mille: u32,
    /// The link that it stands for; else it passes on at once what comes.
    pub link: Option<Link>,
}

/// A link with a queue in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Bytes that it carries a second, with the headers of UDP and IP or of TCP and IP.
    pub bytes_per_s: u32,
    /// Bytes that wait for it at the most: further datagrams are lost, and a stream of TCP is not
    /// read.
    pub queue_bytes: u32,
    /// Time that it takes besides.
    pub one_way: Duration,
}

/// Tokio runtime of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Current-thread runtime.
    #[default]
    Current,
    /// A thread for each core that it may use.
    Multi,
}

/// Measurement that a client makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Calls, the next one of a caller when the one before has ended.
    Closed(ClosedLoop),
    /// Closed loop beside bulk traffic on the same connection.
    Beside {
        /// The calls that are measured.
        load: ClosedLoop,
        /// The bulk traffic, if there is any.
        bulk: Option<BulkLoad>,
    },
    /// Closed loop from several threads.
    Spread(Spread),
    /// Calls at a fixed rate.
    Open(OpenLoop),
    /// Items of one stream.
    Stream(StreamLoad),
    /// Memory of this many idle connections.
    Connections {
        /// Connections.
        count: usize,
    },
    /// Times from the beginning of a connection to the first reply.
    Reconnect(ReconnectLoad),
}

/// Connections to a server of before, one after the other.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ReconnectLoad {
    /// Kind of handshake.
    pub handshake: Handshake,
    /// Number of connections.
    pub count: usize,
}

/// Kind of handshake of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// Full handshake.
    Full,
    /// Resumption of the session before.
    Resumed,
    /// Resumption with the call in the first packet (0-RTT).
    Early,
}

/// A fixed number of callers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ClosedLoop {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Callers, each with one call at a time.
    pub in_flight: usize,
    /// Time before the window.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
}

/// Bulk calls, which keep both directions of a link full: uploads and downloads at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkLoad {
    /// Bytes of the largest body; those of one direction are evenly spaced up to it.
    pub bytes_max: usize,
    /// Uploads at a time, and as many downloads.
    pub calls_each_way: usize,
}

/// A fixed number of callers, spread evenly over threads, each with a runtime and connections of
/// its own.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    /// Load of all threads together.
    pub load: ClosedLoop,
    /// Threads.
    pub threads: usize,
    /// Connections of a thread, each from a port of its own: those of one port would all reach the
    /// same shard of a server.
    pub connections_per_thread: usize,
}

/// A fixed rate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct OpenLoop {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Calls begun per second, evenly spaced.
    pub calls_per_s: f64,
    /// Time before the window.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
}

/// A stream that is full all the time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StreamLoad {
    /// Bytes of an item.
    pub item_bytes: usize,
    /// Sender of the items.
    pub direction: Direction,
    /// Time before the window.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
}

/// Sender of the items of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The server.
    Down,
    /// The client.
    Up,
}

/// Message from a client to the benchmark.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// Its server is there; the load begins.
    Serving {
        /// Address of the server.
        address: std::net::SocketAddr,
    },
    /// Calls were measured.
    Calls(CallReport),
    /// A stream was measured.
    Stream(StreamReport),
    /// Connections were measured.
    Connections(ConnectionReport),
    /// First replies were measured.
    Reconnects(Quantiles),
    /// The measurement failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// Calls of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// Calls that ended in the window.
    pub calls: u64,
    /// Length of the window.
    pub seconds: f64,
    /// CPU time of the client in the window, user and system, all threads.
    pub client_cpu_us: f64,
    /// CPU time of the server in the window.
    pub server_cpu_us: f64,
    /// Latency of the calls that lie in the window as a whole; if none does, of those that ended in
    /// it.
    pub latency: Quantiles,
    /// Resident memory of the client at the end.
    pub client_rss_bytes: u64,
    /// Resident memory of the server at the end.
    pub server_rss_bytes: u64,
    /// Bytes of bulk calls that ended in the window, both directions together.
    pub bulk_bytes: u64,
}

/// Items of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Items that arrived in the window.
    pub items: u64,
    /// Length of the window.
    pub seconds: f64,
}

/// Memory of idle connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Connections that were opened beside the first one.
    pub connections: usize,
    /// Growth of the client's memory.
    pub client_bytes: u64,
    /// Growth of the server's memory.
    pub server_bytes: u64,
    /// Time for the opening of all.
    pub seconds: f64,
}

/// Resource usage of a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in µs, user and system, all threads.
    pub cpu_us: f64,
    /// Resident memory.
    pub rss_bytes: u64,
}

impl CallReport {
    /// Rate.
    pub fn calls_per_s(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// CPU time of both processes for one call.
    pub fn cpu_us_per_call(&self) -> f64 {
        (self.client_cpu_us + self.server_cpu_us) / self.calls.max(1) as f64
    }
}

impl Spread {
    /// Number of connections: as many as were asked for, but none without a caller.
    pub fn connections(&self) -> usize {
        (self.threads * self.connections_per_thread).min(self.load.in_flight)
    }

    /// Numbers of callers: for each thread, for each of its connections.
    pub(crate) fn callers(&self) -> Vec<Vec<usize>> {
        let connections = self.connections();
        let mut threads = vec![Vec::new(); self.threads.min(connections)];
        let count = threads.len();
        for connection in 0..connections {
            let one_more = usize::from(connection < self.load.in_flight % connections);
            threads[connection % count].push(self.load.in_flight / connections + one_more);
        }
        threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_spread_evenly_and_none_is_lost() {
        let callers = |in_flight, threads, connections_per_thread| {
            let load = ClosedLoop {
                body_bytes: 32,
                in_flight,
                warm_up: Duration::ZERO,
                window: Duration::ZERO,
            };
            let spread = Spread {
                load,
                threads,
                connections_per_thread,
            };
            let callers = spread.callers();
            let connections = callers.iter().flatten();
            assert_eq!(connections.clone().count(), spread.connections());
            assert_eq!(connections.sum::<usize>(), in_flight);
            callers
        };
        assert_eq!(callers(64, 2, 1), [[32], [32]]);
        assert_eq!(callers(64, 2, 4), [[8; 4]; 2]);
        assert_eq!(callers(64, 3, 1), [[22], [21], [21]]);
        // More connections than callers, and more threads.
        assert_eq!(callers(5, 2, 4), [vec![1; 3], vec![1; 2]]);
        assert_eq!(callers(1, 4, 4), [[1]]);
    }

    #[test]
    fn cpu_time_is_that_of_both_processes() {
        let report = CallReport {
            calls: 100,
            seconds: 0.5,
            client_cpu_us: 300.0,
            server_cpu_us: 100.0,
            ..CallReport::default()
        };
        assert_eq!(
            (report.calls_per_s(), report.cpu_us_per_call()),
            (200.0, 4.0)
        );
    }
}
