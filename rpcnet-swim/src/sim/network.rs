//! What lies between the nodes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fastrand::Rng;

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Least time on the way.
    pub delay: Duration,
    /// Mean of what comes on top, exponentially distributed: datagrams overtake each other.
    pub jitter: Duration,
    /// Chance that a datagram is lost.
    pub loss: f64,
    /// Chance that a datagram arrives twice.
    pub duplicate: f64,
    /// Chance that a datagram is held back for up to [`Link::held_back_max`].
    pub reorder: f64,
    /// Longest that a reordered datagram is held back.
    pub held_back_max: Duration,
}

impl Link {
    /// A quiet data centre: half a millisecond, nothing lost.
    pub const fn lan() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            held_back_max: Duration::from_millis(50),
        }
    }

    /// The same with this chance of loss.
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// The same with this least delay, and a tenth of it as jitter.
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self.jitter = Duration::from_micros(delay.as_micros() as u64 / 10);
        self
    }

    fn time(&self, rng: &mut Rng) -> Duration {
        let jitter = self.jitter.mul_f64(-(1.0 - rng.f64()).ln());
        let held = match rng.f64() < self.reorder {
            true => self.held_back_max.mul_f64(rng.f64()),
            false => Duration::ZERO,
        };
        self.delay + jitter + held
    }
}

/// All links, by the number of the node at each end.
#[derive(Clone, Debug)]
pub struct Network {
    /// Every link that has not got one of its own.
    pub default: Link,
    links: HashMap<(usize, usize), Link>,
    cuts: HashSet<(usize, usize)>,
    /// Nodes of different groups do not reach each other.
    groups: HashMap<usize, u32>,
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives(Duration),
    Twice(Duration, Duration),
    Lost,
    Cut,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            default: Link::lan(),
            links: HashMap::new(),
            cuts: HashSet::new(),
            groups: HashMap::new(),
        }
    }

    /// Gives one direction between two nodes a link of its own.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.links.insert((from, to), link);
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    /// Divides the network: `nodes` reach each other and nobody else.
    pub fn isolate(&mut self, nodes: impl IntoIterator<Item = usize>, group: u32) {
        self.groups
            .extend(nodes.into_iter().map(|node| (node, group)));
    }

    /// Ends every cut and every partition, and takes back all links of their own.
    pub fn heal(&mut self) {
        self.groups.clear();
        self.cuts.clear();
        self.links.clear();
    }

    /// Ends every partition.
    pub fn unite(&mut self) {
        self.groups.clear();
    }

    /// Whether what `from` sends can reach `to`.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.groups.get(&from) == self.groups.get(&to) && !self.cuts.contains(&(from, to))
    }

    pub(crate) fn fate(&self, rng: &mut Rng, from: usize, to: usize) -> Fate {
        if !self.is_open(from, to) {
            return Fate::Cut;
        }
        let link = match self.links.is_empty() {
            true => &self.default,
            false => self.links.get(&(from, to)).unwrap_or(&self.default),
        };
        if rng.f64() < link.loss {
            return Fate::Lost;
        }
        match rng.f64() < link.duplicate {
            true => Fate::Twice(link.time(rng), link.time(rng)),
            false => Fate::Arrives(link.time(rng)),
        }
    }
}
