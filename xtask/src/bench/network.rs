//! Network between client and server.

use std::{error::Error, net::Ipv4Addr, process};

use xtask_load::Relay;

use crate::project;

#[derive(Debug)]
pub(crate) enum Network {
    /// Loopback of the machine.
    Loopback,
    /// Loopback with a relay, threads of the client.
    Relay(Relay),
    /// Two network namespaces, whose packet filters lose datagrams.
    Namespaces(Namespaces),
}

/// Two network namespaces with a cable between them, which are gone when this is.
#[derive(Debug)]
pub(crate) struct Namespaces {
    server: String,
    client: String,
}

impl Network {
    pub(crate) fn ips(&self) -> [Ipv4Addr; 2] {
        match self {
            Self::Loopback | Self::Relay(_) => [Ipv4Addr::LOCALHOST; 2],
            Self::Namespaces(_) => [SERVER_IP, CLIENT_IP],
        }
    }

    pub(crate) fn relay(&self) -> Option<Relay> {
        match self {
            Self::Relay(relay) => Some(*relay),
            Self::Loopback | Self::Namespaces(_) => None,
        }
    }

    /// Words before the command of a process that run it on its side.
    pub(crate) fn prefix(&self, server: bool) -> Vec<String> {
        let Self::Namespaces(namespaces) = self else {
            return Vec::new();
        };
        let name = if server {
            &namespaces.server
        } else {
            &namespaces.client
        };
        ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
    }
}

impl Namespaces {
    /// Makes them. Each loses, of what comes in, `loss_per_mille` packets in a thousand, each with
    /// the same probability.
    ///
    /// # Errors
    ///
    /// When this takes more rights than we have, or ip or nft are missing. Nothing of it is left
    /// then.
    pub(crate) fn make(loss_per_mille: u32) -> Result<Self, Box<dyn Error>> {
        // The names of an interrupted run would be in the way.
        let name = |side| format!("rpcnet-{}-{side}", process::id());
        let made = Self {
            server: name("server"),
            client: name("client"),
        };
        let (server, client) = (made.server.as_str(), made.client.as_str());
        for namespace in [server, client] {
            ip(&["netns", "add", namespace])?;
        }
        ip(&[
            "link", "add", CABLE, "netns", server, "type", "veth", "peer", "name", CABLE, "netns",
            client,
        ])?;
        for (namespace, address) in [(server, SERVER_IP), (client, CLIENT_IP)] {
            let address = format!("{address}/24");
            ip(&["-n", namespace, "address", "add", &address, "dev", CABLE])?;
            // Segments leave one by one: else the filter would lose whole batches of them.
            ip(&["-n", namespace, "link", "set", CABLE, "gso_max_segs", "1"])?;
            ip(&["-n", namespace, "link", "set", CABLE, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            let rules = format!(
                "add table inet bench; \
                 add chain inet bench input {{ type filter hook input priority 0; }}; \
                 add rule inet bench input iifname {CABLE} numgen random mod 1000 < {loss_per_mille} counter drop"
            );
            ip(&["netns", "exec", namespace, "nft", &rules])?;
        }
        Ok(made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            // It may not have been made.
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    project::run_for_stdout(project::program("ip").args(arguments)).map(|_| ())
}

const CABLE: &str = "bench";

// Addresses for documentation and tests (RFC 5737).
const SERVER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_run_on_their_side() {
        assert_eq!(Network::Loopback.prefix(true), [""; 0]);
        // Not made, so its drop finds nothing to delete.
        let network = Network::Namespaces(Namespaces {
            server: "no-such-server".into(),
            client: "no-such-client".into(),
        });
        assert_eq!(
            network.prefix(true),
            ["ip", "netns", "exec", "no-such-server"]
        );
        assert_eq!(network.prefix(false)[3], "no-such-client");
        let [server, client] = network.ips();
        assert_ne!(server, client);
    }
}
