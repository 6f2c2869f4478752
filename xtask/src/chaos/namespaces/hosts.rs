//! Hosts: network namespaces on one bridge, made for a run and removed at its end.
//!
//! The bridge lies in a namespace of its own, so nothing that a run makes is seen by the machine's
//! own network, and no packet can leave it.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::faults::{self, Fault, dropped, host_name, ruleset};

/// The hosts of a run. Removed when this is dropped.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    /// Begins the name of everything that the run makes.
    run: String,
    hosts: usize,
}

/// Why there are no hosts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostNetworkError {
    /// A program is missing, or the system does not allow it.
    #[error("{0}")]
    Unsupported(String),
    /// The network could not be made, although it seemed possible.
    #[error("cannot make the hosts: {0}")]
    Setup(Box<dyn Error>),
}

impl HostNetwork {
    /// Makes so many hosts, which reach each other.
    ///
    /// # Errors
    ///
    /// [`HostNetworkError`]; what had been made is removed.
    pub(crate) fn new(hosts: usize) -> Result<Self, HostNetworkError> {
        for program in ["ip", "nft"] {
            let version = command(program).arg("-V").output();
            if !version.is_ok_and(|output| output.status.success()) {
                return Err(HostNetworkError::Unsupported(format!(
                    "`{program}` is missing (packages iproute2 and nftables)"
                )));
            }
        }
        remove_leftovers();
        let network = Self {
            run: format!("{PREFIX}{}", std::process::id()),
            hosts,
        };
        let unsupported = |what: &str, error: Box<dyn Error>| {
            HostNetworkError::Unsupported(format!("{what} (needs root or CAP_SYS_ADMIN): {error}"))
        };
        run("ip", &["netns", "add", &network.bridge_namespace()], "")
            .map_err(|error| unsupported("network namespaces cannot be made", error))?;
        ip(&network.bridge_namespace(), &bridge_commands())
            .map_err(|error| unsupported("a bridge between namespaces cannot be made", error))?;
        let probe = [Fault::Loss {
            host: 1,
            percent: 20,
            direction: faults::Direction::Both,
        }];
        network
            .set_faults(&probe)
            .and_then(|()| network.set_faults(&[]))
            .map_err(|error| unsupported("nft cannot drop packets in a namespace", error))?;
        network.make_hosts().map_err(HostNetworkError::Setup)?;
        Ok(network)
    }

    fn make_hosts(&self) -> Result<(), Box<dyn Error>> {
        let all = 1..=self.hosts;
        let add = |host| format!("netns add {}\n", self.namespace(host));
        let names = all.clone().map(add);
        run("ip", &["-batch", "-"], &names.collect::<String>())?;
        let bridge = self.bridge_namespace();
        for host in all.clone() {
            ip(&self.namespace(host), &interface_commands(host, &bridge))?;
        }
        self.write_hosts_files(HostNames::Usual, 0)?;
        ip(&bridge, &all.map(attach_commands).collect::<String>())
    }

    /// Replaces all faults of the network.
    pub(crate) fn set_faults(&self, faults: &[Fault]) -> Result<(), Box<dyn Error>> {
        nft(&self.bridge_namespace(), &["-f", "-"], &ruleset(faults)).map(drop)
    }

    /// Packets that the faults have dropped since they were set.
    pub(crate) fn dropped(&self) -> Result<u64, Box<dyn Error>> {
        let table = ["list", "table", "bridge", faults::TABLE];
        Ok(dropped(&nft(&self.bridge_namespace(), &table, "")?))
    }

    /// Replaces the address of a host's interface.
    pub(crate) fn change_address(
        &self,
        host: usize,
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> Result<(), Box<dyn Error>> {
        ip(&self.namespace(host), &readdress_commands(from, to))
    }

    /// Sets the largest packet that a host's interface sends or takes.
    pub(crate) fn set_mtu(&self, host: usize, bytes: u16) -> Result<(), Box<dyn Error>> {
        let text = format!("link set eth0 mtu {bytes}\n");
        ip(&self.namespace(host), &text)
    }

    /// Writes the `/etc/hosts` that the processes of each host see, in place, so that running
    /// processes see it too. `turn` counts rotations of names.
    pub(crate) fn write_hosts_files(
        &self,
        names: HostNames,
        turn: usize,
    ) -> Result<(), Box<dyn Error>> {
        for host in 1..=self.hosts {
            let folder = self.folder(host);
            fs::create_dir_all(&folder)?;
            // No name server: what the file does not name does not resolve, at once.
            fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
            let text = hosts_file_text(host, self.hosts, names, turn);
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(false).write(true);
            let mut file = options.open(folder.join("hosts"))?;
            // One write and then the length, so that no reader finds it empty.
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
        }
        Ok(())
    }

    /// A command that runs this executable in a host.
    pub(crate) fn command_in(
        &self,
        host: usize,
        arguments: &[&str],
    ) -> Result<Command, Box<dyn Error>> {
        let mut command = command("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .arg(env::current_exe()?)
            .args(arguments);
        Ok(command)
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{}", self.run, host_name(host))
    }

    fn bridge_namespace(&self) -> String {
        format!("{}-hub", self.run)
    }

    fn folder(&self, host: usize) -> PathBuf {
        Path::new(ETC).join(self.namespace(host))
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        remove(|name| {
            name.strip_prefix(&self.run)
                .is_some_and(|rest| rest.starts_with('-'))
        });
    }
}

/// Names in the `/etc/hosts` of each host, beside `localhost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostNames {
    /// Those of all hosts.
    Usual,
    /// Those of all hosts, but its own is 127.0.1.1, as installers of Debian write it.
    OwnLoopback,
    /// Those of all hosts, and [`ROTATING_NAME`], which stands for these in turn.
    Rotating(&'static [[usize; 3]]),
}

pub(crate) fn address(host: usize) -> Ipv4Addr {
    let last = u8::try_from(host).expect("there are few hosts");
    Ipv4Addr::new(10, 77, 0, last)
}

/// Address and port of the node of a host.
pub(crate) fn socket_address(host: usize) -> SocketAddr {
    (address(host), PORT).into()
}

fn hosts_file_text(host: usize, hosts: usize, names: HostNames, turn: usize) -> String {
    let mut text = "127.0.0.1 localhost\n".to_owned();
    for other in 1..=hosts {
        let addr = match names {
            HostNames::OwnLoopback if other == host => Ipv4Addr::new(127, 0, 1, 1),
            _ => address(other),
        };
        let _ = writeln!(text, "{addr} {}", host_name(other));
    }
    if let HostNames::Rotating(rotations) = names {
        for other in rotations[turn % rotations.len()] {
            let _ = writeln!(text, "{} {ROTATING_NAME}", address(other));
        }
    }
    text
}

fn bridge_commands() -> String {
    "link set lo up\nlink add br0 type bridge\nlink set br0 up\n".to_owned()
}

/// Commands of `ip` in a host's namespace: an address, and a default route as every machine has,
/// to no host.
fn interface_commands(host: usize, hub: &str) -> String {
    format!(
        "link set lo up\nlink add eth0 type veth peer name {} netns {hub}\naddr add {}/24 dev eth0\nlink set eth0 up\n\
         route add default via {GATEWAY}\n",
        host_name(host),
        address(host)
    )
}

fn readdress_commands(from: Ipv4Addr, to: Ipv4Addr) -> String {
    format!(
        "addr del {from}/24 dev eth0\naddr add {to}/24 dev eth0\nroute replace default via {GATEWAY}\n"
    )
}

fn attach_commands(host: usize) -> String {
    let port = host_name(host);
    format!("link set {port} master br0\nlink set {port} up\n")
}

/// Removes what runs left that were killed.
fn remove_leftovers() {
    remove(|name| owner(name).is_some_and(|id| !is_running(id)));
}

/// The process that made a namespace of this name, if it was a run.
fn owner(name: &str) -> Option<u32> {
    let (id, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    id.parse().ok()
}

/// Whether a run of this process id can still be going on: the id may be another program's by now.
fn is_running(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains("chaos"))
}

/// Removes the namespaces of these names and their folders. Best effort: an error has no reader.
fn remove(is_ours: impl Fn(&str) -> bool) {
    let entries = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| is_ours(name)).collect::<Vec<_>>()
    };
    let namespaces = entries("/run/netns");
    let lines = namespaces.iter().map(|name| format!("netns del {name}\n"));
    let lines: String = lines.collect();
    if !lines.is_empty() {
        let _ = run("ip", &["-force", "-batch", "-"], &lines);
    }
    for name in entries(ETC) {
        let _ = fs::remove_dir_all(Path::new(ETC).join(name));
    }
    // Gone only if it is empty.
    let _ = fs::remove_dir(ETC);
}

fn ip(namespace: &str, lines: &str) -> Result<(), Box<dyn Error>> {
    run("ip", &["-n", namespace, "-batch", "-"], lines).map(drop)
}

fn nft(namespace: &str, arguments: &[&str], input: &str) -> Result<String, Box<dyn Error>> {
    let start = ["netns", "exec", namespace, "nft"];
    run("ip", &[&start, arguments].concat(), input)
}

/// Runs a program to its end; what it prints.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, Box<dyn Error>> {
    let mut command = command(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A program that has failed does not read on; its standard error says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Command of a program for administrators, which is not in every user's path.
fn command(program: &str) -> Command {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .map(|folder| Path::new(folder).join(program))
        .into_iter()
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| program.into()))
}

/// The port that every node listens on.
pub(crate) const PORT: u16 = 7_946;
/// A name of several hosts.
pub(crate) const ROTATING_NAME: &str = "cluster";
pub(crate) const USUAL_MTU: u16 = 1_500;
const PREFIX: &str = "rpcnet-chaos-";
/// Folder of the files that `ip netns exec` shows in place of those of `/etc`.
const ETC: &str = "/etc/netns";
/// Address that no host has.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_address_and_a_default_route_within_its_namespace() {
        let text = interface_commands(3, "hub");
        assert!(text.contains("addr add 10.77.0.3/24 dev eth0\n"), "{text}");
        assert!(text.contains("peer name h03 netns hub\n"), "{text}");
        assert!(
            text.ends_with("route add default via 10.77.0.254\n"),
            "{text}"
        );
        let changed = readdress_commands(address(3), Ipv4Addr::new(10, 77, 0, 103));
        assert!(
            changed.starts_with("addr del 10.77.0.3/24 dev eth0\naddr add 10.77.0.103/24"),
            "{changed}"
        );
    }

    #[test]
    fn hosts_files_name_what_the_situation_asks_for() {
        let plain = hosts_file_text(2, 3, HostNames::Usual, 0);
        assert!(plain.contains("10.77.0.2 h02\n") && plain.contains("10.77.0.3 h03\n"));
        let debian = hosts_file_text(2, 3, HostNames::OwnLoopback, 0);
        assert!(debian.contains("127.0.1.1 h02\n") && debian.contains("10.77.0.3 h03\n"));
        let rotating = HostNames::Rotating(&[[1, 3, 2], [3, 1, 2]]);
        let [one, other, again] = [0, 1, 2].map(|turn| hosts_file_text(2, 3, rotating, turn));
        assert!(one.ends_with("10.77.0.1 cluster\n10.77.0.3 cluster\n10.77.0.2 cluster\n"));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert_eq!(one.len(), other.len(), "written in place");
    }

    #[test]
    fn leftovers_are_those_of_runs_that_are_gone() {
        assert_eq!(owner("rpcnet-chaos-17-h03"), Some(17));
        assert_eq!(owner("rpcnet-chaos-17"), None);
        assert_eq!(owner("other-17-h03"), None);
        assert!(!is_running(u32::MAX));
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_words() {
        let error = run("ls", &["--no-such-option"], "")
            .unwrap_err()
            .to_string();
        let said = error.strip_prefix("ls --no-such-option: ");
        assert!(said.is_some_and(|said| !said.is_empty()), "{error}");
        assert!(run("no-such-program", &[], "").is_err());
    }
}
