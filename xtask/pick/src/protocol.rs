//! What the processes of a measurement tell each other, a line of JSON each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PickOrder {
    /// What chooses.
    pub strategy: String,
    /// Among how many.
    pub workers: usize,
    /// Threads that choose at the same time, of the same state.
    pub threads: usize,
    /// What is done.
    pub work: Work,
    /// For how long.
    pub window: Duration,
}

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Somebody is chosen.
    Pick,
    /// All that a call pays for being balanced: the choice, the count of calls in flight, two looks
    /// at the clock, what is learnt from its end.
    Call,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Time of a thread for each.
    pub ns: f64,
    /// Requests for memory for each.
    pub allocations: f64,
}

/// What a process answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PickReply {
    Measured(Reading),
    Failed { message: String },
}

impl PickOrder {
    /// As a line.
    ///
    /// # Panics
    ///
    /// Never: an order has a text.
    pub fn to_line(&self) -> String {
        let text = serde_json::to_string(self).expect("an order has a text");
        text + "\n"
    }
}

impl Reading {
    /// Of the line that answers an order.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn from_line(line: &str) -> Result<Self, String> {
        match serde_json::from_str(line) {
            Ok(PickReply::Measured(reading)) => Ok(reading),
            Ok(PickReply::Failed { message }) => Err(message),
            Err(error) => Err(format!("{line:?} is no answer: {error}")),
        }
    }
}
