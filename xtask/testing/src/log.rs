//! Log lines of one thread, kept for a test.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, set_default},
};

/// A line of the log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Severity of the line.
    pub level: Level,
    /// The message and the fields, as in `message=deadline exceeded node="node-1"`.
    pub text: String,
}

/// Lines that this thread logs, from [`start`](Self::start) until the value is dropped.
#[derive(Debug)]
pub struct LogCapture {
    lines: Arc<Mutex<Vec<LogLine>>>,
    _guard: DefaultGuard,
}

impl LogCapture {
    /// Starts to keep the lines of this thread, those of this level and the more severe ones.
    pub fn start(level: Level) -> Self {
        Self::start_with(level, |_| ())
    }

    /// The same, with a function that is called at each line.
    pub fn start_with(level: Level, on_line: impl Fn(&LogLine) + Send + Sync + 'static) -> Self {
        let lines = Arc::default();
        let collector = Collector {
            level,
            lines: Arc::clone(&lines),
            on_line,
        };
        Self {
            lines,
            _guard: set_default(collector),
        }
    }

    /// Removes and returns the lines since the start or the last call.
    pub fn take(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.lines.lock().expect("no thread panics in between"))
    }
}

struct Collector<F> {
    level: Level,
    lines: Arc<Mutex<Vec<LogLine>>>,
    on_line: F,
}

impl<F: Fn(&LogLine) + Send + Sync + 'static> Subscriber for Collector<F> {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        *of.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = LogLine {
            level: *event.metadata().level(),
            text: text.0,
        };
        (self.on_line)(&line);
        let mut lines = self.lines.lock().expect("no thread panics in between");
        lines.push(line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0 += &format!("{field}={value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_level_and_above_are_kept() {
        let log = LogCapture::start(Level::WARN);
        tracing::info!("not kept");
        tracing::warn!(node = "node-1", "deadline exceeded");
        let lines = log.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].level, Level::WARN);
        assert_eq!(lines[0].text, "message=deadline exceeded node=\"node-1\"");
        assert_eq!(log.take().len(), 0);
        drop(log);
        let log = LogCapture::start(Level::INFO);
        tracing::error!("connection refused");
        assert_eq!(log.take()[0].level, Level::ERROR);
    }
}
