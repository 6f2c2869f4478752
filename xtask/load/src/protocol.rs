//! Messages between the processes of a measurement, a line of JSON each.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use xtask_report::Quantiles;

/// Order to a process, which it reads first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Serves until its input ends. It answers with [`Serving`].
    Serve(Setup),
    /// Starts a server and measures it. It answers with the [`Serving`] of its server, and at the
    /// end with its [`Report`].
    Measure(Box<Assignment>),
}

/// A server that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Its address.
    pub address: SocketAddr,
}

/// Setup of a process.
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
    /// Connections at a time that limits have to allow; 0 if there are few.
    pub connections: usize,
    /// A server takes calls before the handshake is over.
    pub early_data: bool,
}

/// Assignment of a client.
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
    /// Load of the measurement.
    pub load: Load,
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

/// Load of a measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Bytes of a body, or of an item of a stream.
    pub body_bytes: usize,
    /// Callers of a closed loop, each with one call at a time. In an open loop, the most calls at a
    /// time, which limits have to allow.
    pub in_flight: usize,
    /// Time before the window.
    pub warm_up: Duration,
    /// Time that is measured.
    pub window: Duration,
}

/// Measurement that a client makes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Calls, the next one of a caller when the one before has ended.
    Closed {
        /// Bulk traffic beside them, on the same connection.
        bulk: Option<BulkLoad>,
    },
    /// Closed loop from several threads.
    Spread(Spread),
    /// Calls at a fixed rate.
    Open {
        /// Calls begun per second, evenly spaced.
        calls_per_s: f64,
    },
    /// No calls: an empty loop of the client looks at the clock, and calls that end as soon as it
    /// sees that they are to begin show what the machine adds to those of an open loop.
    Empty {
        /// Calls due per second, evenly spaced.
        calls_per_s: f64,
    },
    /// Items of one stream, which is full all the time.
    Stream(Direction),
    /// Memory of idle connections.
    Connections {
        /// Number of connections.
        count: usize,
    },
    /// Times from the beginning of a connection to its first reply, one connection after the other.
    Reconnect {
        /// Kind of handshake.
        handshake: Handshake,
        /// Number of connections.
        count: usize,
    },
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

/// Bulk calls, which keep both directions of a link full: uploads and downloads at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkLoad {
    /// Bytes of the largest body; those of one direction are evenly spaced up to it.
    pub bytes_max: usize,
    /// Uploads at a time, and as many downloads.
    pub calls_each_way: usize,
}

/// Threads that the callers of a load are spread over evenly, each with a runtime and connections
/// of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Threads.
    pub threads: usize,
    /// Connections of a thread, each from a port of its own: those of one port would all reach the
    /// same shard of a server.
    pub connections_per_thread: usize,
}

/// Sender of the items of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The server.
    Down,
    /// The client.
    Up,
    /// Both: each item of the client comes back.
    Both,
}

/// Measurements of a client in its window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Calls that ended in the window, items that arrived in it, or connections that were opened.
    pub count: u64,
    /// Calls of an open loop that were due and had no reply at the end of the window.
    pub backlog: u64,
    /// Length of the window.
    pub seconds: f64,
    /// CPU time of the client in the window, user and system, all threads.
    pub client_cpu_us: f64,
    /// CPU time of the server in the window.
    pub server_cpu_us: f64,
    /// Time in which threads of both processes waited on a run queue in the window, in parts of the
    /// window: 1 is one thread that waited all the time. `None` where the system does not tell.
    pub run_queue_wait: Option<f64>,
    /// Latency of the calls that lie in the window as a whole; if none does, of those that ended in
    /// it.
    pub latency: Quantiles,
    /// Resident memory of the client at the end; of connections, the growth of it.
    pub client_rss_bytes: u64,
    /// Resident memory of the server at the end; of connections, the growth of it.
    pub server_rss_bytes: u64,
    /// Bytes of the items, or of bulk calls that ended in the window, both directions together.
    pub bulk_bytes: u64,
}

/// Resource usage of a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in µs, user and system, all threads.
    pub cpu_us: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Time in µs that the threads that it has now were ready to run and waited for a core; `None`
    /// where the system does not tell.
    pub run_queue_wait_us: Option<f64>,
}

impl Order {
    /// Name of the subject.
    pub(crate) fn subject(&self) -> &str {
        match self {
            Self::Serve(setup) => &setup.subject,
            Self::Measure(assignment) => &assignment.client.subject,
        }
    }
}

impl Usage {
    /// Time on run queues since `earlier`, in µs. That of threads which have ended is missing.
    pub(crate) fn waited_since(self, earlier: Self) -> Option<f64> {
        let waited_us = self.run_queue_wait_us? - earlier.run_queue_wait_us?;
        Some(waited_us.max(0.0))
    }
}

impl BulkLoad {
    /// Calls at a time, in both directions together.
    pub fn calls(self) -> usize {
        2 * self.calls_each_way
    }
}

impl Report {
    /// Calls, items or connections per second.
    pub fn per_s(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// CPU time of both processes for one call.
    pub fn cpu_us_per_call(&self) -> f64 {
        (self.client_cpu_us + self.server_cpu_us) / self.count.max(1) as f64
    }

    /// Rate of the bulk calls, or of the items.
    pub fn bulk_mib_per_s(&self) -> f64 {
        self.bulk_bytes as f64 / self.seconds / f64::from(1 << 20)
    }
}

impl Spread {
    /// Number of connections for so many callers: as many as were asked for, but none without a
    /// caller.
    pub fn connections(&self, callers: usize) -> usize {
        (self.threads * self.connections_per_thread).min(callers)
    }

    /// Numbers of callers: for each thread, for each of its connections.
    pub(crate) fn spread(&self, callers: usize) -> Vec<Vec<usize>> {
        let connections = self.connections(callers);
        let mut threads = vec![Vec::new(); self.threads.min(connections)];
        let count = threads.len();
        for connection in 0..connections {
            let one_more = usize::from(connection < callers % connections);
            threads[connection % count].push(callers / connections + one_more);
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
            let spread = Spread {
                threads,
                connections_per_thread,
            };
            let callers = spread.spread(in_flight);
            let connections = callers.iter().flatten();
            assert_eq!(connections.clone().count(), spread.connections(in_flight));
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
    fn time_on_run_queues_is_that_between_two_readings() {
        let usage = |run_queue_wait_us| Usage {
            run_queue_wait_us,
            ..Usage::default()
        };
        let waited = |later, earlier| usage(later).waited_since(usage(earlier));
        assert_eq!(waited(Some(9.0), Some(5.0)), Some(4.0));
        // A thread that had waited long has ended.
        assert_eq!(waited(Some(4.0), Some(5.0)), Some(0.0));
        assert_eq!(waited(Some(9.0), None), None);
        assert_eq!(waited(None, Some(5.0)), None);
    }

    #[test]
    fn cpu_time_is_that_of_both_processes() {
        let report = Report {
            count: 100,
            seconds: 0.5,
            client_cpu_us: 300.0,
            server_cpu_us: 100.0,
            ..Report::default()
        };
        assert_eq!((report.per_s(), report.cpu_us_per_call()), (200.0, 4.0));
    }
}
