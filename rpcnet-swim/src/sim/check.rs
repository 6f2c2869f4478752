//! The rules that no run may break.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::inspect::{Fill, Sight};
use crate::event::{Member, MemberState, PartitionStatus};
use crate::tags::Tags;
use crate::time::Time;

/// A rule that was broken, when and in whose view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// Virtual time.
    pub at: Time,
    /// Name of the node that saw it.
    pub observer: String,
    /// What it saw.
    pub violation: Violation,
}

/// The rules, by what breaks them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A member's epoch or incarnation fell.
    WentBack {
        /// The member.
        member: String,
        /// Epoch and incarnation before.
        from: (u64, u32),
        /// And after.
        to: (u64, u32),
    },
    /// A member is seen with an epoch or incarnation that it never had itself.
    Invented {
        /// The member.
        member: String,
        /// Epoch and incarnation seen.
        seen: (u64, u32),
        /// What the member itself has.
        own: Option<(u64, u32)>,
    },
    /// A failed or left member came back without a word of its own; or one that left failed.
    RoseAgain {
        /// The member.
        member: String,
        /// Before.
        from: MemberState,
        /// After.
        to: MemberState,
    },
    /// A member was held failed that was up, heard and heard others.
    FalseFailure {
        /// The member.
        member: String,
    },
    /// Something grew past its bound.
    Unbounded {
        /// What.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        bound: usize,
    },
    /// A datagram is larger than the configuration allows.
    Oversized {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The hash of the view is not that of its members.
    WrongHash,
    /// After the trouble the view did not become what is.
    NotConverged {
        /// Since the end of the trouble.
        after: Duration,
        /// In what it differs.
        difference: String,
    },
}

impl Failure {
    /// The same with the command that shows it again.
    pub fn with_replay(&self, seed: u64) -> String {
        format!(
            "seed {seed}: {self}\nto replay: RPCNET_SIM_SEED={seed} cargo test -p rpcnet-swim \
             --test simulation replay -- --nocapture"
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_micros() as f64 / 1e6;
        write!(
            f,
            "at {seconds:.3} s in the view of {}: {:?}",
            self.observer, self.violation
        )
    }
}

/// What each life of each name has said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    /// (key of the name, epoch) to the highest incarnation.
    own: HashMap<(u64, u64), u32>,
}

impl Lives {
    pub(crate) fn note(&mut self, engine: &Engine) {
        let Member {
            id, incarnation, ..
        } = engine.me();
        let own = self.own.entry((id.key(), id.epoch)).or_default();
        *own = (*own).max(incarnation);
    }
}

/// One node's view as it was at the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    seen: HashMap<u64, Seen>,
    looks: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    epoch: u64,
    incarnation: u32,
    state: MemberState,
    look: u64,
}

impl Watch {
    /// Compares a view with what it was and with what its members say of themselves.
    pub(crate) fn look(&mut self, engine: &Engine, lives: &Lives) -> Result<(), Violation> {
        for Fill { what, count, bound } in engine.fills() {
            if count > bound {
                return Err(Violation::Unbounded { what, count, bound });
            }
        }
        if engine.view_hash() != engine.recomputed_view() {
            return Err(Violation::WrongHash);
        }
        self.looks += 1;
        let mut members = 0;
        for sight in engine.sights() {
            self.look_at(sight, lives)?;
            members += 1;
        }
        if self.seen.len() > members {
            // Forgotten ones: what is seen of them later is seen for the first time.
            let look = self.looks;
            self.seen.retain(|_, seen| seen.look == look);
        }
        Ok(())
    }

    fn look_at(&mut self, sight: Sight<'_>, lives: &Lives) -> Result<(), Violation> {
        let Sight {
            key,
            name,
            epoch,
            incarnation,
            state,
        } = sight;
        let member = || name.to_owned();
        let own = lives.own.get(&(key, epoch)).copied();
        if own.is_none_or(|own| own < incarnation) {
            return Err(Violation::Invented {
                member: member(),
                seen: (epoch, incarnation),
                own: own.map(|own| (epoch, own)),
            });
        }
        let now = Seen {
            epoch,
            incarnation,
            state,
            look: self.looks,
        };
        let Some(before) = self.seen.insert(key, now) else {
            return Ok(());
        };
        let (from, to) = ((before.epoch, before.incarnation), (epoch, incarnation));
        if to < from {
            return Err(Violation::WentBack {
                member: member(),
                from,
                to,
            });
        }
        let rose = !before.state.is_live() && state.is_live() && to == from;
        let left = before.state == MemberState::Left && before.epoch == epoch;
        if rose || (left && state != MemberState::Left) {
            return Err(Violation::RoseAgain {
                member: member(),
                from: before.state,
                to: state,
            });
        }
        Ok(())
    }
}

/// What is: a node as every view should have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Truth {
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) addr: SocketAddr,
    pub(crate) draining: bool,
    pub(crate) tags: Tags,
}

impl Truth {
    pub(crate) fn of(member: Member) -> (String, Self) {
        let Member {
            id,
            addr,
            incarnation,
            draining,
            tags,
            ..
        } = member;
        let truth = Self {
            epoch: id.epoch,
            incarnation,
            addr,
            draining,
            tags,
        };
        (id.name.to_string(), truth)
    }
}

/// In what a view differs from what is, if it does.
pub(crate) fn difference(engine: &Engine, truth: &HashMap<String, Truth>) -> Option<String> {
    let mut live = 1;
    for member in engine.members() {
        if member.state != MemberState::Alive {
            if truth.contains_key(&*member.id.name) {
                return Some(format!(
                    "{:?} is {:?}@{} and yet up",
                    member.id, member.state, member.incarnation
                ));
            }
            if member.state == MemberState::Suspect {
                return Some(format!("{:?} is suspect still", member.id));
            }
            continue;
        }
        live += 1;
        let id = member.id.clone();
        let (name, seen) = Truth::of(member);
        match truth.get(&name) {
            None => return Some(format!("{id:?} is down and yet alive")),
            Some(is) if *is != seen => return Some(format!("{id:?} is {is:?}, seen as {seen:?}")),
            Some(_) => {}
        }
    }
    if live != truth.len() {
        return Some(format!("{live} of {} are known", truth.len()));
    }
    match engine.partition_status() {
        PartitionStatus::Healthy => None,
        status => Some(format!("{status:?} is reported")),
    }
}
