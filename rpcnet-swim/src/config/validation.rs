//! Validation of a configuration: ranges of settings, and settings that contradict each other.

use super::{ClusterConfig, DATAGRAM_BYTES_MIN, MEMBERS_MAX};
use crate::error::ConfigError;
use crate::id::check_name;
use crate::seed;

impl ClusterConfig {
    /// Removes the white space around seeds, and empty ones.
    #[cfg(feature = "tokio")]
    pub(crate) fn trim_seeds(&mut self) -> Result<(), ConfigError> {
        self.seeds = seed::parse_all(&self.seeds)
            .map_err(|(seed, reason)| ConfigError::InvalidSeed { seed, reason })?;
        Ok(())
    }

    /// Checks what can be checked before a socket is there.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_name(&self.cluster_name)?;
        if let Some(name) = &self.name {
            check_name(name)?;
            self.tags
                .check_fits_with_name(name)
                .map_err(ConfigError::TagsTooLargeWithName)?;
        }
        seed::parse_all(&self.seeds)
            .map_err(|(seed, reason)| ConfigError::InvalidSeed { seed, reason })?;
        for (setting, time) in [
            ("probe interval", self.probe_interval),
            ("probe timeout", self.probe_timeout),
            ("gossip interval", self.gossip_interval),
            ("refute time", self.refute_time),
            ("suspicion maximum", self.suspicion_max),
            ("redial interval", self.redial_interval),
            ("join timeout", self.join_timeout),
        ] {
            if time.is_zero() {
                return Err(ConfigError::Zero { setting });
            }
            let (value, min, max) = (time.as_secs_f64(), 0.001, 24.0 * 3600.0);
            if !(min..=max).contains(&value) {
                return Err(ConfigError::OutOfRange {
                    setting,
                    value,
                    min,
                    max,
                });
            }
        }
        if self.probe_timeout.as_secs_f64() > 0.7 * self.probe_interval.as_secs_f64() {
            return Err(ConfigError::ProbeTimeout {
                timeout: self.probe_timeout,
                interval: self.probe_interval,
            });
        }
        let count = |n: usize| n as f64;
        let day = 24.0 * 3600.0;
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
                "probe interval in s",
                self.probe_interval.as_secs_f64(),
                0.01,
                300.0,
            ),
            (
                "forget after in s",
                self.forget_after.as_secs_f64(),
                120.0,
                365.0 * day,
            ),
            (
                "datagram bytes",
                count(self.datagram_bytes_max),
                count(DATAGRAM_BYTES_MIN),
                65_000.0,
            ),
            (
                "most members",
                count(self.members_max),
                2.0,
                16.0 * MEMBERS_MAX as f64,
            ),
            ("event capacity", count(self.event_capacity), 1.0, 1e6),
        ] {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::OutOfRange {
                    setting,
                    value,
                    min,
                    max,
                });
            }
        }
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
