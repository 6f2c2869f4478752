//! Method numbers of a lane: each method name is sent once.

use std::collections::HashMap;

/// Method names of one lane and their numbers, in the order of their first call.
#[derive(Debug, Default)]
pub(super) struct MethodNumbers {
    names: Vec<Box<str>>,
    /// Index for many names; empty while a linear search is faster.
    numbers: HashMap<Box<str>, u16>,
    last: u16,
}

/// Number of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodNumber {
    Known(u16),
    /// First use: the server has to be told the name.
    New(u16),
}

impl MethodNumbers {
    /// Number of a name, or `None` if the lane has the most methods that it may have.
    pub(super) fn number(&mut self, name: &str) -> Option<MethodNumber> {
        if let Some(number) = self.find(name) {
            self.last = number;
            return Some(MethodNumber::Known(number));
        }
        if self.names.len() >= LANE_METHODS_MAX {
            return None;
        }
        let number = self.names.len() as u16;
        self.names.push(name.into());
        if self.names.len() == LINEAR_SEARCH_MAX {
            self.numbers = (0..)
                .zip(&self.names)
                .map(|(n, name)| (name.clone(), n))
                .collect();
        } else if self.names.len() > LINEAR_SEARCH_MAX {
            self.numbers.insert(name.into(), number);
        }
        self.last = number;
        Some(MethodNumber::New(number))
    }

    fn find(&self, name: &str) -> Option<u16> {
        // Callers tend to repeat the same method.
        if self
            .names
            .get(usize::from(self.last))
            .is_some_and(|last| **last == *name)
        {
            return Some(self.last);
        }
        if self.names.len() >= LINEAR_SEARCH_MAX {
            return self.numbers.get(name).copied();
        }
        let at = self.names.iter().position(|known| **known == *name)?;
        Some(at as u16)
    }
}

/// Most methods of one lane; calls of further ones have streams of their own. It bounds the
/// server's memory.
pub(crate) const LANE_METHODS_MAX: usize = 1_024;

/// Most names that are compared one by one.
const LINEAR_SEARCH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_however_many_there_are() {
        let mut methods = MethodNumbers::default();
        let names: Vec<String> = (0..LANE_METHODS_MAX)
            .map(|n| format!("method-{n}"))
            .collect();
        for round in 0..2 {
            for (number, name) in (0u16..).zip(&names) {
                let expected = if round == 0 {
                    MethodNumber::New(number)
                } else {
                    MethodNumber::Known(number)
                };
                assert_eq!(methods.number(name), Some(expected), "{name}");
                assert_eq!(
                    methods.number(name),
                    Some(MethodNumber::Known(number)),
                    "{name}"
                );
            }
        }
        assert_eq!(methods.number("one more"), None);
    }
}
