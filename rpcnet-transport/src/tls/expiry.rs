//! Expiry warnings of a node's certificate: when they are due.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use rustls_pki_types::UnixTime;

/// Validity of a certificate in seconds since the Unix epoch, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before_s: u64,
    pub(super) not_after_s: u64,
}

/// Expiry of a certificate and the time of the last warning. All endpoints of an identity share it,
/// so that one of them warns.
#[derive(Debug)]
pub(super) struct Expiry {
    validity: Validity,
    /// Seconds since the Unix epoch; zero before the first warning.
    warned_s: AtomicU64,
}

/// Warning about the expiry of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpiryWarning {
    /// The certificate expires after this time.
    Soon(Duration),
    /// The certificate has expired.
    Expired,
}

impl Validity {
    /// Time of the first warning. A certificate that is renewed in time, usually when a third or a
    /// half of its validity is left, causes none.
    fn first_warning_s(self) -> u64 {
        let ahead_s = self.not_after_s.saturating_sub(self.not_before_s) / 4;
        self.not_after_s - ahead_s.min(AHEAD_MAX_S)
    }

    /// Time of the warning that follows one at `warned_s`: when half of the rest has passed, when
    /// the certificate has expired, and every hour afterwards.
    fn next_warning_s(self, warned_s: u64) -> u64 {
        match self.not_after_s.checked_sub(warned_s) {
            None => warned_s.saturating_add(EXPIRED_EVERY_S),
            Some(left_s) if left_s < 2 * PAUSE_MIN_S => self.not_after_s + 1,
            Some(left_s) => warned_s + left_s.div_ceil(2),
        }
    }

    /// Time of the next warning, given the last one.
    fn due_s(self, warned_s: Option<u64>, now_s: u64) -> u64 {
        match warned_s {
            // A clock that was set back starts anew.
            Some(warned_s) if warned_s <= now_s => self.next_warning_s(warned_s),
            _ => self.first_warning_s(),
        }
    }

    fn warning_at(self, now_s: u64) -> ExpiryWarning {
        match self.not_after_s.checked_sub(now_s) {
            Some(left_s) => ExpiryWarning::Soon(Duration::from_secs(left_s)),
            None => ExpiryWarning::Expired,
        }
    }
}

impl Expiry {
    pub(super) fn new(validity: Validity) -> Self {
        Self {
            validity,
            warned_s: AtomicU64::new(0),
        }
    }

    /// The same validity, without a warning so far.
    pub(super) fn renewed(&self) -> Self {
        Self::new(self.validity)
    }

    pub(super) fn not_after_s(&self) -> u64 {
        self.validity.not_after_s
    }

    /// Takes the warning that is due now; it is given once.
    pub(super) fn take_warning(&self, now: UnixTime) -> Option<ExpiryWarning> {
        let (now_s, warned_s) = (now.as_secs(), self.warned_s.load(SeqCst));
        if now_s < self.due_s(warned_s, now_s) {
            return None;
        }
        // One of the endpoints that find it due at the same time gives it.
        let taken = self
            .warned_s
            .compare_exchange(warned_s, now_s, SeqCst, SeqCst);
        taken.ok().map(|_| self.validity.warning_at(now_s))
    }

    /// Time until the next warning.
    pub(super) fn until_warning(&self, now: UnixTime) -> Duration {
        let (now_s, warned_s) = (now.as_secs(), self.warned_s.load(SeqCst));
        Duration::from_secs(self.due_s(warned_s, now_s).saturating_sub(now_s))
    }

    fn due_s(&self, warned_s: u64, now_s: u64) -> u64 {
        let warned_s = (warned_s != 0).then_some(warned_s);
        self.validity.due_s(warned_s, now_s)
    }
}

/// The first warning comes at most 30 days before the expiry.
const AHEAD_MAX_S: u64 = 30 * 24 * 3600;

/// Shortest time between two warnings before the expiry.
const PAUSE_MIN_S: u64 = 60;

const EXPIRED_EVERY_S: u64 = 3600;

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
