//! Network faults, as nftables rules in the namespace of the bridge that connects the hosts.

use std::fmt::Write;

/// A fault of the network between the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A share of the packets to and from a host is lost.
    Loss {
        host: usize,
        /// Packets lost, of a hundred.
        percent: u8,
        direction: Direction,
    },
    /// All packets between these hosts and the others are lost.
    Cut { side: &'static [usize] },
    /// IP packets to and from these hosts that are larger are lost, and no sender is told.
    Mtu {
        /// The hosts behind the narrow path.
        hosts: &'static [usize],
        /// The largest IP packet that passes.
        bytes: u16,
    },
}

/// The direction of packets, as seen from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Packets to the host.
    Inbound,
    /// Packets from the host.
    Outbound,
    Both,
}

/// The input of `nft -f -` that replaces all faults by these.
pub(crate) fn ruleset(faults: &[Fault]) -> String {
    // The first line makes sure that there is a table to delete.
    let mut text = format!(
        "table bridge {TABLE} {{}}\ndelete table bridge {TABLE}\ntable bridge {TABLE} {{\n\
         \tchain forward {{\n\t\ttype filter hook forward priority 0; policy accept;\n"
    );
    for rule in faults.iter().flat_map(rules) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n}\n");
    text
}

fn rules(fault: &Fault) -> Vec<String> {
    match fault {
        Fault::Loss {
            host,
            percent,
            direction,
        } => {
            let share = match percent {
                100.. => "counter drop".to_owned(),
                some => format!("numgen random mod 100 < {some} counter drop"),
            };
            let matches: &[&str] = match direction {
                Direction::Inbound => &["oifname"],
                Direction::Outbound => &["iifname"],
                Direction::Both => &["iifname", "oifname"],
            };
            let rule = |matched| format!("{matched} \"{}\" {share}", host_name(*host));
            matches.iter().map(rule).collect()
        }
        Fault::Cut { side } => {
            let ports = set(side);
            vec![
                format!("iifname {ports} oifname != {ports} counter drop"),
                format!("oifname {ports} iifname != {ports} counter drop"),
            ]
        }
        Fault::Mtu { hosts, bytes } => {
            let ports = set(hosts);
            let rule = |matched| {
                format!("{matched} {ports} ether type ip ip length > {bytes} counter drop")
            };
            ["iifname", "oifname"].map(rule).into()
        }
    }
}

fn set(hosts: &[usize]) -> String {
    let quoted: Vec<_> = hosts
        .iter()
        .map(|host| format!("\"{}\"", host_name(*host)))
        .collect();
    format!("{{ {} }}", quoted.join(", "))
}

/// Packets that the rules have dropped, by what `nft list table` prints.
pub(crate) fn dropped(listing: &str) -> u64 {
    let after = listing.split("counter packets ").skip(1);
    after
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The name of a host, of its node, and of its port on the bridge.
pub(crate) fn host_name(host: usize) -> String {
    format!("h{host:02}")
}

pub(crate) const TABLE: &str = "faults";

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(fault: Fault) -> Vec<String> {
        rules(&fault)
    }

    #[test]
    fn loss_is_a_share_of_one_or_both_directions() {
        let loss = |percent, direction| Fault::Loss {
            host: 5,
            percent,
            direction,
        };
        assert_eq!(
            lines(loss(20, Direction::Both)),
            [
                "iifname \"h05\" numgen random mod 100 < 20 counter drop",
                "oifname \"h05\" numgen random mod 100 < 20 counter drop"
            ]
        );
        assert_eq!(
            lines(loss(100, Direction::Outbound)),
            ["iifname \"h05\" counter drop"]
        );
        assert_eq!(
            lines(loss(100, Direction::Inbound)),
            ["oifname \"h05\" counter drop"]
        );
    }

    #[test]
    fn a_cut_spares_packets_of_one_side() {
        let side = &[11, 12];
        assert_eq!(
            lines(Fault::Cut { side }),
            [
                "iifname { \"h11\", \"h12\" } oifname != { \"h11\", \"h12\" } counter drop",
                "oifname { \"h11\", \"h12\" } iifname != { \"h11\", \"h12\" } counter drop"
            ]
        );
    }

    #[test]
    fn a_narrow_path_drops_what_is_larger() {
        let fault = Fault::Mtu {
            hosts: &[10],
            bytes: 1_280,
        };
        assert_eq!(
            lines(fault)[1],
            "oifname { \"h10\" } ether type ip ip length > 1280 counter drop"
        );
    }

    #[test]
    fn a_ruleset_replaces_the_one_before() {
        let none = ruleset(&[]);
        assert!(none.starts_with("table bridge faults {}\ndelete table bridge faults\n"));
        assert!(!none.contains("drop"));
        let cut = ruleset(&[Fault::Cut { side: &[1] }]);
        assert_eq!(cut.matches("drop").count(), 2);
        assert_eq!(cut.matches('{').count(), cut.matches('}').count());
    }

    #[test]
    fn dropped_packets_are_summed() {
        let listing = "oifname \"h01\" counter packets 7 bytes 90 drop\n\
                       iifname \"h01\" counter packets 35 bytes 1 drop\n";
        assert_eq!(dropped(listing), 42);
        assert_eq!(dropped(""), 0);
    }
}
