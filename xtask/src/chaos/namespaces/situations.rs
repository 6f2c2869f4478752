//! Situations: faults between hosts, and the checks of their effects.

use std::{error::Error, net::Ipv4Addr, time::Duration};

use clap::ValueEnum;
use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    checks::{
        all_answer, all_refuse, all_serve, are_not_live, most_datagrams, never_refused,
        views_are_whole,
    },
    faults::{Direction, Fault, port},
    hosts::{HostsFile, PORT, ROTATING_NAME, address, socket_address},
    processes::{CLIENT, NodeLaunch},
    situation_run::{SituationRun, names},
};

/// Kind of situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Situation {
    /// A fifth of the packets to and from one host is lost.
    Loss,
    /// All packets to one host are lost, those from it arrive.
    LossInbound,
    /// All packets from one host are lost, those to it arrive.
    LossOutbound,
    /// Two hosts are cut off from the others for a while.
    Cut,
    /// Hosts behind a path of 1,280 bytes join late.
    Mtu,
    /// A host's address changes while its node runs.
    Address,
    /// A process is stopped for a while (SIGSTOP, SIGCONT).
    Freeze,
    /// A process is restarted with a clock that is half an hour behind.
    Clock,
    /// Seed lists name the node itself, a name that does not resolve, and one that rotates.
    Seeds,
    /// Each host's own name is 127.0.1.1 in its /etc/hosts, and seeds are names.
    Names,
}

impl Situation {
    /// Name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no situation is hidden");
        value.get_name().to_owned()
    }

    /// Description in one line.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Loss => "20 % of the packets of one host are lost",
            Self::LossInbound => "all packets to one host are lost",
            Self::LossOutbound => "all packets from one host are lost",
            Self::Cut => "two hosts are cut off from the others",
            Self::Mtu => "three hosts behind a path of 1,280 bytes join late",
            Self::Address => "the address of a host changes",
            Self::Freeze => "a process is stopped for a while",
            Self::Clock => "a process is restarted with a clock half an hour behind",
            Self::Seeds => {
                "seeds name the node itself, a name that does not resolve, and one that rotates"
            }
            Self::Names => "each host's own name is 127.0.1.1, and seeds are names",
        }
    }

    /// Injects the fault and checks its effects.
    pub(crate) async fn inject(self, run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Loss => loss(run).await,
            Self::LossInbound => one_way(run, Direction::Inbound).await,
            Self::LossOutbound => one_way(run, Direction::Outbound).await,
            Self::Cut => cut(run).await,
            Self::Mtu => mtu(run).await,
            Self::Address => address_change(run).await,
            Self::Freeze => freeze(run).await,
            Self::Clock => clock(run).await,
            Self::Seeds => seeds(run).await,
            Self::Names => seeds_by_name(run).await,
        }
    }
}

async fn loss(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    run.set_faults(&[Fault::Loss {
        host: VICTIM,
        percent: 20,
        direction: Direction::Both,
    }])?;
    run.begin_fault();
    run.wait_seconds(60, 8).await;
    run.clear_faults()?;
    run.expect_recovery(RECOVERED_WITHIN).await;
    Ok(())
}

async fn one_way(run: &mut SituationRun<'_>, direction: Direction) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    run.set_faults(&[Fault::Loss {
        host: VICTIM,
        percent: 100,
        direction,
    }])?;
    run.begin_fault();
    run.expect_failed(&[VICTIM], DETECTED_WITHIN).await;
    run.wait_seconds(20, 3).await;
    // It stays out: no flip between suspect and recovered.
    let (observers, victims) = (run.names_but(&[VICTIM]), names(&[VICTIM]));
    let recent = run.now().saturating_sub(RECENT);
    let still = run.with_record(|record| are_not_live(record, &observers, &victims, recent));
    run.expect("the host stays out while it is unreachable", still);
    run.clear_faults()?;
    run.expect_recovery(RECOVERED_WITHIN).await;
    Ok(())
}

async fn cut(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    let last = run.hosts();
    let side = [last - 1, last];
    let (small, large) = (names(&side), run.names_but(&side));
    run.set_faults(&[Fault::Cut {
        side: side.to_vec(),
    }])?;
    let since = run.begin_fault();
    let refused = run
        .wait_for(
            "the small side refuses under keep_majority",
            REFUSED_WITHIN,
            |record| all_refuse(record, &small, since),
        )
        .await;
    run.record_detection(refused);
    run.expect_failed(&side, DETECTED_WITHIN).await;
    run.wait_seconds(15, 2).await;
    let never = run.with_record(|record| never_refused(record, &large, since));
    run.expect("the large side serves all the time", never);
    // The small side may hold the others failed, as it cannot reach them.
    run.allow_failures_by(&side);
    let mended = run.clear_faults()?;
    run.expect_recovery(RECOVERED_WITHIN).await;
    let all = run.names_but(&[]);
    run.wait_for("all serve after the cut", RECOVERED_WITHIN, |record| {
        all_serve(record, &all, mended)
    })
    .await;
    Ok(())
}

async fn mtu(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    let last = run.hosts();
    let late = [last - 2, last - 1, last];
    let filler = |key: &str| (key.to_owned(), "x".repeat(FILLER_BYTES));
    let tags = ["filler-a", "filler-b", "filler-c"].map(filler).to_vec();
    let launch = |host| NodeLaunch {
        tags: tags.clone(),
        ..default_launch(host)
    };
    let early: Vec<_> = (1..late[0]).map(|host| (host, launch(host))).collect();
    run.start(early).await?;
    for host in late {
        run.network().set_mtu(host, SMALL_MTU)?;
    }
    run.set_faults(&[Fault::Mtu {
        hosts: late.to_vec(),
        bytes: SMALL_MTU,
    }])?;
    run.start_load().await?;
    run.begin_fault();
    run.launch(late.map(|host| (host, launch(host))).to_vec())
        .await?;
    run.begin_recovery();
    run.expect_recovery(JOINED_WITHIN).await;
    let dropped = run.network().dropped()?;
    run.print_step(&format!("{dropped} packets were too large for the path"));
    Ok(())
}

async fn address_change(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    let to = Ipv4Addr::new(10, 77, 0, 200);
    run.change_address(VICTIM, to)?;
    run.begin_fault();
    run.print_step(&format!("{} is {to} now", port(VICTIM)));
    // It may be held failed meanwhile.
    run.allow_failures_of(&[VICTIM]);
    run.begin_recovery();
    run.expect_recovery(READDRESSED_WITHIN).await;
    Ok(())
}

async fn freeze(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    run.processes().signal(VICTIM, Signal::STOP)?;
    let since = run.begin_fault();
    run.expect_failed(&[VICTIM], DETECTED_WITHIN).await;
    let least = Duration::from_secs(if run.is_quick() { 12 } else { 30 });
    sleep((since + least).saturating_sub(run.now())).await;
    run.processes().signal(VICTIM, Signal::CONT)?;
    run.begin_recovery();
    run.expect_recovery(RECOVERED_WITHIN).await;
    Ok(())
}

async fn clock(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    run.start_all().await?;
    run.processes().kill(VICTIM).await?;
    run.begin_fault();
    run.allow_failures_of(&[VICTIM]);
    let launch = NodeLaunch {
        clock_back: Some(CLOCK_BACK),
        ..default_launch(VICTIM)
    };
    run.launch(vec![(VICTIM, launch)]).await?;
    run.begin_recovery();
    run.expect_recovery(RESTARTED_WITHIN).await;
    let behind = run.with_record(|record| record.clock_behind.get(&port(VICTIM)).copied());
    let behind = behind.unwrap_or_default();
    run.print_step(&format!("its clock is behind by {behind:.0?}"));
    if behind < CLOCK_BACK / 2 {
        run.fail(format!("its clock is behind by {behind:?} only"));
    }
    Ok(())
}

async fn seeds(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    let network = run.network();
    let hosts = run.hosts();
    let rotation = async {
        for turn in 0.. {
            let order = ROTATIONS[turn % ROTATIONS.len()];
            for host in 1..=hosts {
                network.write_hosts_file(host, &HostsFile::Rotating(&order))?;
            }
            sleep(ROTATED_EVERY).await;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    tokio::select! {
        rotated = rotation => rotated,
        played = with_wrong_seeds(run) => played,
    }
}

async fn with_wrong_seeds(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    let launch = |host| NodeLaunch {
        seeds: vec![
            socket_address(host).to_string(),
            format!("no-such-host.invalid:{PORT}"),
            format!("{ROTATING_NAME}:{PORT}"),
            socket_address(1).to_string(),
        ],
        ..NodeLaunch::default()
    };
    let all: Vec<_> = (1..=run.hosts()).map(|host| (host, launch(host))).collect();
    run.start_alone(all[0].clone()).await?;
    // It goes on looking for the others.
    run.wait_seconds(10, 3).await;
    let alone = run.with_record(|record| record.latest.get(&port(1)).map(|(_, it)| it.sent));
    let seconds = run.elapsed().as_secs_f64();
    let rate = alone.unwrap_or_default() as f64 / seconds;
    run.print_step(&format!("alone, it has sent {rate:.1} datagrams/s"));
    if rate > CALM_DATAGRAMS_S_MAX {
        run.fail(format!(
            "{} alone sent {rate:.0} datagrams/s, at most {CALM_DATAGRAMS_S_MAX}",
            port(1)
        ));
    }
    run.start(all[1..].to_vec()).await?;
    run.expect_quick_starts();
    run.start_load().await?;
    run.begin_fault();
    // News of the joins ends.
    sleep(Duration::from_secs(2)).await;
    let before = run.with_record(|record| record.latest.clone());
    run.wait_seconds(15, 4).await;
    let after = run.with_record(|record| record.latest.clone());
    if let Some((host, rate)) = most_datagrams(&before, &after) {
        run.print_step(&format!(
            "{host} sends most: {rate:.1} datagrams/s in a calm cluster"
        ));
        if rate > CALM_DATAGRAMS_S_MAX {
            run.fail(format!(
                "{host} sent {rate:.0} datagrams/s in a calm cluster, at most {CALM_DATAGRAMS_S_MAX}"
            ));
        }
    }
    run.begin_recovery();
    run.expect_recovery(RECOVERED_WITHIN).await;
    Ok(())
}

async fn seeds_by_name(run: &mut SituationRun<'_>) -> Result<(), Box<dyn Error>> {
    for host in 1..=run.hosts() {
        run.network()
            .write_hosts_file(host, &HostsFile::OwnLoopback)?;
    }
    let launch = NodeLaunch {
        seeds: [1, CLIENT]
            .map(|host| format!("{}:{PORT}", port(host)))
            .to_vec(),
        ..NodeLaunch::default()
    };
    let all = 1..=run.hosts();
    run.start(all.map(|host| (host, launch.clone())).collect())
        .await?;
    run.expect_quick_starts();
    run.start_load().await?;
    run.begin_fault();
    run.begin_recovery();
    run.expect_recovery(RECOVERED_WITHIN).await;
    Ok(())
}

impl SituationRun<'_> {
    /// Starts a node in every host as an operator would, has all see each other, and has calls
    /// flow.
    async fn start_all(&mut self) -> Result<(), Box<dyn Error>> {
        let all = 1..=self.hosts();
        self.start(all.map(|host| (host, default_launch(host))).collect())
            .await?;
        self.start_load().await
    }

    /// Waits until the others hold these hosts failed; they are expected to.
    async fn expect_failed(&mut self, victims: &[usize], within: Duration) {
        self.allow_failures_of(victims);
        let (observers, members) = (self.names_but(victims), names(victims));
        let since = self.fault_began();
        let what = format!("the others hold {} failed", list(victims));
        let detected = self
            .wait_for(&what, within, |record| {
                are_not_live(record, &observers, &members, since)
            })
            .await;
        self.record_detection(detected);
    }

    /// Waits until all views are whole again and every worker answers calls.
    async fn expect_recovery(&mut self, within: Duration) {
        let mended = self.recovery_from();
        let roster = self.expected_addrs();
        let recovered = self
            .wait_for("every view is whole", within, |record| {
                views_are_whole(record, &roster, mended)
            })
            .await;
        self.record_recovery(recovered);
        let workers = self.names_but(&[CLIENT]);
        self.wait_for("every worker answers calls", ANSWERED_WITHIN, |record| {
            all_answer(record, &workers, mended)
        })
        .await;
    }
}

/// Start of a node with the usual seeds: the first node begins the cluster, two are seeds.
fn default_launch(host: usize) -> NodeLaunch {
    let seeds: &[usize] = match host {
        1 => &[],
        CLIENT => &[1],
        _ => &[1, CLIENT],
    };
    let seeds = seeds
        .iter()
        .map(|seed| format!("{}:{PORT}", address(*seed)));
    NodeLaunch {
        seeds: seeds.collect(),
        ..NodeLaunch::default()
    }
}

fn list(hosts: &[usize]) -> String {
    let names: Vec<_> = hosts.iter().map(|host| port(*host)).collect();
    names.join(" and ")
}

/// The host that something happens to, if it is one; no seed, and not the client.
const VICTIM: usize = 5;
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
const DETECTED_WITHIN: Duration = Duration::from_secs(20);
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
const JOINED_WITHIN: Duration = Duration::from_secs(3);
const READDRESSED_WITHIN: Duration = Duration::from_secs(30);
const RESTARTED_WITHIN: Duration = Duration::from_secs(20);
/// A worker that was out of reach is tried again after this time at the latest.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
const CLOCK_BACK: Duration = Duration::from_secs(30 * 60);
/// The least that IPv6 asks for; what many tunnels have.
const SMALL_MTU: u16 = 1_280;
/// Size of each of three tags: the records of two members fill a datagram that does not pass the
/// small path, and one alone passes.
const FILLER_BYTES: usize = 190;
/// The hosts that a rotating name stands for.
const ROTATIONS: [[usize; 3]; 4] = [[1, 3, 4], [3, 4, 1], [4, 1, 3], [6, 7, 8]];
const ROTATED_EVERY: Duration = Duration::from_millis(50);
/// Datagrams a second of a node whose cluster has no news.
const CALM_DATAGRAMS_S_MAX: f64 = 50.0;
/// Bound above the age of a status.
const RECENT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_has_a_name_and_a_line() {
        let names: Vec<_> = Situation::value_variants()
            .iter()
            .map(|it| it.name())
            .collect();
        assert_eq!(
            names,
            [
                "loss",
                "loss-inbound",
                "loss-outbound",
                "cut",
                "mtu",
                "address",
                "freeze",
                "clock",
                "seeds",
                "names"
            ]
        );
        for situation in Situation::value_variants() {
            assert!(!situation.description().is_empty());
        }
    }

    #[test]
    fn the_default_seeds_start_before_their_nodes() {
        assert_eq!(default_launch(1).seeds, Vec::<String>::new());
        assert_eq!(default_launch(CLIENT).seeds, ["10.77.0.1:7946"]);
        assert_eq!(
            default_launch(7).seeds,
            ["10.77.0.1:7946", "10.77.0.2:7946"]
        );
    }
}
