//! Log of executed calls, in files that outlive the processes.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// A file in which a worker records each run of its handlers, by the number of the call.
///
/// What is written to a file outlives the process that wrote it, however it ends.
#[derive(Debug)]
pub(crate) struct ExecutionLog(File);

impl ExecutionLog {
    /// Goes on with a file, or begins one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    /// The handler runs for this call. The number is written in one piece, so threads need no lock.
    pub(crate) fn record(&self, call: u64) -> io::Result<()> {
        (&self.0).write_all(&call.to_le_bytes())
    }
}

/// Number of executions of each call, by all logs of a folder.
#[derive(Debug, Default)]
pub(crate) struct ExecutionCounts(BTreeMap<u64, u32>);

impl ExecutionCounts {
    /// Reads the logs.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut runs = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == LOG_EXTENSION) {
                runs.add(&fs::read(path)?);
            }
        }
        Ok(runs)
    }

    fn add(&mut self, content: &[u8]) {
        let (numbers, _) = content.as_chunks::<8>();
        for number in numbers {
            *self.0.entry(u64::from_le_bytes(*number)).or_default() += 1;
        }
    }

    /// Number of executions of a call.
    pub(crate) fn count(&self, call: u64) -> u32 {
        self.0.get(&call).copied().unwrap_or_default()
    }

    /// The calls that ran more than once.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|it| *it.1 > 1).map(|it| *it.0)
    }
}

/// Extension of the names of logs.
pub(crate) const LOG_EXTENSION: &str = "runs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_all_workers_are_counted_together() {
        let folder = tempfile::tempdir().unwrap();
        for (name, calls) in [("a", [1, 2]), ("b", [2, 5])] {
            let path = folder.path().join(name).with_extension(LOG_EXTENSION);
            // Opened again, as by a worker that was started again.
            for call in calls {
                ExecutionLog::open(&path).unwrap().record(call).unwrap();
            }
        }
        fs::write(folder.path().join("ca.pem"), "something else").unwrap();
        let runs = ExecutionCounts::read(folder.path()).unwrap();
        assert_eq!([0, 1, 2, 5].map(|call| runs.count(call)), [0, 1, 2, 1]);
        assert_eq!(runs.repeated().collect::<Vec<_>>(), [2]);
    }
}
