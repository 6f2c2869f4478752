//! Validation of a configuration: ranges of settings, and settings that contradict each other.

use super::{ClusterConfig, DATAGRAM_BYTES_MIN, MEMBERS_MAX};
use crate::error::ConfigError;
use crate::id::check_name;
use crate::seed;

impl ClusterConfig {
    /// Checks what can be checked before a socket is there.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_names()?;
        self.trimmed_seeds()?;
        self.check_times()?;
        self.check_counts()?;
        self.check_sealing()
    }

    /// Removes the white space around seeds, and empty ones.
    #[cfg(feature = "tokio")]
    pub(crate) fn trim_seeds(&mut self) -> Result<(), ConfigError> {
        self.seeds = self.trimmed_seeds()?;
        Ok(())
    }

    fn trimmed_seeds(&self) -> Result<Vec<String>, ConfigError> {
        seed::parse_all(&self.seeds)
            .map_err(|(seed, reason)| ConfigError::InvalidSeed { seed, reason })
    }

    /// The names, and the tags beside the name of the node.
    fn check_names(&self) -> Result<(), ConfigError> {
        check_name(&self.cluster_name)?;
        if let Some(name) = &self.name {
            check_name(name)?;
            self.tags
                .check_fits_with_name(name)
                .map_err(ConfigError::TagsTooLargeWithName)?;
        }
        Ok(())
    }

    /// Times, and the probe timeout beside the probe interval.
    fn check_times(&self) -> Result<(), ConfigError> {
        for (setting, time) in [
            ("probe interval", self.probe_interval),
            ("probe timeout", self.effective_probe_timeout()),
            ("gossip interval", self.gossip_interval),
            ("refute time", self.effective_refute_time()),
            ("suspicion maximum", self.suspicion_max),
            ("redial interval", self.redial_interval),
            ("join timeout", self.join_timeout),
        ] {
            if time.is_zero() {
                return Err(ConfigError::Zero { setting });
            }
            check_range(setting, time.as_secs_f64(), 0.001, DAY_SECS)?;
        }
        let (timeout, interval) = (self.effective_probe_timeout(), self.probe_interval);
        if timeout.as_secs_f64() > 0.7 * interval.as_secs_f64() {
            return Err(ConfigError::ProbeTimeout { timeout, interval });
        }
        let (interval, forget) = (interval.as_secs_f64(), self.forget_after.as_secs_f64());
        check_range("probe interval in s", interval, 0.01, 300.0)?;
        check_range("forget after in s", forget, 120.0, 365.0 * DAY_SECS)
    }

    /// Numbers of members, of bytes and of datagrams, and the phi threshold.
    fn check_counts(&self) -> Result<(), ConfigError> {
        let count = |n: usize| n as f64;
        let bytes_min = count(DATAGRAM_BYTES_MIN);
        let members_max = 16.0 * MEMBERS_MAX as f64;
        for (setting, value, min, max) in [
            ("indirect probes", count(self.indirect_probes), 0.0, 16.0),
            ("ring successors", count(self.ring_successors), 0.0, 8.0),
            ("gossip fanout", count(self.gossip_fanout), 1.0, 16.0),
            (
                "retransmit multiplier",
                self.retransmit_mult.into(),
                1.0,
                100.0,
            ),
            ("phi threshold", self.phi_threshold, 0.5, 100.0),
            (
                "datagram bytes",
                count(self.datagram_bytes_max),
                bytes_min,
                65_000.0,
            ),
            ("most members", count(self.members_max), 2.0, members_max),
            ("event capacity", count(self.event_capacity), 1.0, 1e6),
        ] {
            check_range(setting, value, min, max)?;
        }
        Ok(())
    }

    /// Whether gossip is sealed, or may go in clear.
    fn check_sealing(&self) -> Result<(), ConfigError> {
        match (&self.keys, self.insecure) {
            (Some(_), true) => Err(ConfigError::KeyAndInsecure),
            (None, false) if !self.bind_addr.ip().is_loopback() => {
                Err(ConfigError::InsecureGossip {
                    addr: self.bind_addr,
                })
            }
            _ => Ok(()),
        }
    }
}

fn check_range(setting: &'static str, value: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::OutOfRange {
            setting,
            value,
            min,
            max,
        }),
    }
}

const DAY_SECS: f64 = 24.0 * 3600.0;
