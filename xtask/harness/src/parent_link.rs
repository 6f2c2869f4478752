//! Link of a child to its parent.

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    process,
    thread::{self, JoinHandle},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::json_line::{self, Failure, LINE_BYTES_MAX};

/// The orders of the parent, and the way to tell it things.
///
/// Two threads serve the pipes, so that a busy or blocked runtime neither misses the parent's end
/// nor waits for a slow parent.
#[derive(Debug)]
pub struct ParentLink<O, N> {
    orders: mpsc::Receiver<O>,
    notices: Notices<N>,
    writer: JoinHandle<()>,
}

impl<O, N> ParentLink<O, N>
where
    O: DeserializeOwned + Send + 'static,
    N: Serialize + Send + 'static,
{
    /// Takes over standard input and output. From now on this process ends, with exit code
    /// [`ORPHANED`], as soon as its parent is gone, however that came about.
    pub fn open() -> io::Result<Self> {
        Self::over(io::stdin(), io::stdout(), |reason| {
            eprintln!("ending: {reason}");
            process::exit(ORPHANED)
        })
    }

    /// The same over any two streams; `orphaned` is called, on a thread of its own and perhaps
    /// twice, when either of them ends or breaks.
    fn over(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        orphaned: impl Fn(String) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (order_sender, orders) = mpsc::channel(ORDERS_MAX);
        let (notice_sender, notices) = mpsc::channel(NOTICES_MAX);
        let told = orphaned.clone();
        thread::Builder::new()
            .name("orders".into())
            .spawn(move || {
                told(read_orders(BufReader::new(reader), &order_sender));
            })?;
        let writer = thread::Builder::new()
            .name("notices".into())
            .spawn(move || {
                if let Err(error) = write_notices(writer, notices) {
                    orphaned(format!("the parent does not listen: {error}"));
                }
            })?;
        Ok(Self {
            orders,
            notices: Notices(notice_sender),
            writer,
        })
    }

    /// The next order. `None` only while the process is already ending. Cancel safe.
    pub async fn next_order(&mut self) -> Option<O> {
        self.orders.recv().await
    }

    /// A handle to send notices from other tasks.
    pub fn notices(&self) -> Notices<N> {
        self.notices.clone()
    }

    /// Tells the parent why the process cannot go on, after all else.
    pub(crate) async fn fail(self, error: &dyn Error) {
        let failed = error.to_string();
        let _ = self.notices.0.send(Line::Failure(Failure { failed })).await;
        self.close().await;
    }

    /// Writes what has been told so far, so that the process may end.
    pub async fn close(self) {
        // If this fails the writer has ended already, with the parent.
        let _ = self.notices.0.send(Line::End).await;
        // Joined off the runtime, as the parent may be slow to read.
        let joined = tokio::task::spawn_blocking(move || self.writer.join()).await;
        joined
            .ok()
            .and_then(Result::ok)
            .expect("writing notices does not panic");
    }
}

/// Tells the parent things. What is told after [`ParentLink::close`] goes nowhere.
#[derive(Debug)]
pub struct Notices<N>(mpsc::Sender<Line<N>>);

/// Order to the thread that writes.
#[derive(Debug)]
enum Line<N> {
    Notice(N),
    Failure(Failure),
    /// Nothing more.
    End,
}

impl<N> Clone for Notices<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N> Notices<N> {
    /// Waits until there is room: for what must arrive.
    pub async fn send(&self, notice: N) {
        // An error means that the writer has ended, with the link or with the parent.
        let _ = self.0.send(Line::Notice(notice)).await;
    }

    /// False if the parent is behind, and the notice dropped: for what the next one replaces.
    pub fn try_send(&self, notice: N) -> bool {
        self.0.try_send(Line::Notice(notice)).is_ok()
    }
}

/// Passes orders on until there can be no more, and says why.
fn read_orders<O: DeserializeOwned>(mut reader: impl BufRead, orders: &mpsc::Sender<O>) -> String {
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)
        {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(LINE_BYTES_MAX) => return "an order is too long".into(),
            // Cut short, an order is none.
            Ok(_) => return "the parent is gone".into(),
            Err(error) => return format!("cannot read orders: {error}"),
        }
        let order = match json_line::decode(&line) {
            Ok(order) => order,
            Err(error) => return format!("cannot understand an order: {error}"),
        };
        // Waiting for room here would mean not to see the parent's end.
        match orders.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return "orders come faster than they are taken".into(),
            Err(TrySendError::Closed(_)) => {
                // Orders are no longer taken; what still counts is the parent's end.
                let end = io::copy(&mut reader, &mut io::sink());
                return format!("the parent is gone ({end:?})");
            }
        }
    }
}

/// Writes notices, each at once, until told to stop.
fn write_notices<N: Serialize>(
    mut writer: impl Write,
    mut notices: mpsc::Receiver<Line<N>>,
) -> io::Result<()> {
    while let Some(line) = notices.blocking_recv() {
        let line = match line {
            Line::Notice(notice) => json_line::encode(&notice)?,
            Line::Failure(failure) => json_line::encode(&failure)?,
            Line::End => break,
        };
        writer.write_all(&line)?;
        writer.flush()?;
    }
    Ok(())
}

/// The exit code of a child that lost its parent.
pub const ORPHANED: i32 = 3;

/// Orders that may wait; a parent sends a handful.
const ORDERS_MAX: usize = 64;

/// Notices that may wait for the parent to read.
const NOTICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, pipe},
        sync::mpsc::{Receiver, channel},
        time::Duration,
    };

    use super::*;
    use crate::test_protocol::{Notice, Order};

    struct Parent {
        orders: PipeWriter,
        notices: BufReader<PipeReader>,
        orphaned: Receiver<String>,
    }

    fn linked() -> (ParentLink<Order, Notice>, Parent) {
        let (order_reader, orders) = pipe().unwrap();
        let (notice_reader, notice_writer) = pipe().unwrap();
        let (sender, orphaned) = channel();
        let told = move |reason| drop(sender.send(reason));
        let link = ParentLink::over(order_reader, notice_writer, told).unwrap();
        (
            link,
            Parent {
                orders,
                notices: BufReader::new(notice_reader),
                orphaned,
            },
        )
    }

    fn reason(parent: &Parent) -> String {
        parent
            .orphaned
            .recv_timeout(Duration::from_secs(20))
            .unwrap()
    }

    #[tokio::test]
    async fn orders_and_notices_pass() {
        let (mut link, mut parent) = linked();
        parent
            .orders
            .write_all(&json_line::encode(&Order::Drain).unwrap())
            .unwrap();
        assert_eq!(link.next_order().await, Some(Order::Drain));

        let notice = Notice::Note {
            text: "hello".into(),
        };
        link.notices().send(notice.clone()).await;
        link.close().await;
        let mut line = String::new();
        parent.notices.read_line(&mut line).unwrap();
        assert_eq!(
            json_line::decode::<Notice>(line.as_bytes()).unwrap(),
            notice
        );
        assert_eq!(
            parent.notices.read_line(&mut line).unwrap(),
            0,
            "closed after the last"
        );
        assert!(parent.orphaned.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_end_of_the_parent_is_noticed() {
        let (link, mut parent) = linked();
        parent.orders.write_all(b"{\"order\":\"dra").unwrap();
        drop(std::mem::replace(&mut parent.orders, pipe().unwrap().1));
        assert_eq!(reason(&parent), "the parent is gone");
        drop(link);
    }

    #[tokio::test]
    async fn the_end_of_the_parent_is_noticed_when_orders_are_no_longer_taken() {
        let (mut link, mut parent) = linked();
        link.orders.close();
        parent
            .orders
            .write_all(&json_line::encode(&Order::Drain).unwrap())
            .unwrap();
        drop(std::mem::replace(&mut parent.orders, pipe().unwrap().1));
        assert!(reason(&parent).starts_with("the parent is gone"));
    }

    #[tokio::test]
    async fn a_parent_that_no_longer_reads_is_noticed() {
        let (link, mut parent) = linked();
        parent.notices = BufReader::new(pipe().unwrap().0);
        link.notices()
            .send(Notice::Note {
                text: "hello".into(),
            })
            .await;
        assert!(reason(&parent).starts_with("the parent does not listen"));
        link.close().await;
    }

    #[tokio::test]
    async fn malformed_too_long_and_too_many_orders_end_the_child() {
        for (input, expected) in [
            (b"{}\n".to_vec(), "cannot understand an order"),
            (vec![b'x'; LINE_BYTES_MAX], "an order is too long"),
            (
                json_line::encode(&Order::Drain)
                    .unwrap()
                    .repeat(ORDERS_MAX + 1),
                "orders come faster",
            ),
        ] {
            let (link, mut parent) = linked();
            // On its own thread: the pipe may be full before the link gives up.
            let writer = thread::spawn(move || {
                let _ = parent.orders.write_all(&input);
                parent
            });
            let parent = writer.join().unwrap();
            let told = reason(&parent);
            assert!(told.starts_with(expected), "{told}");
            drop(link);
        }
    }

    #[tokio::test]
    async fn notices_to_a_slow_parent_are_bounded() {
        let (link, parent) = linked();
        let notices = link.notices();
        let text = "x".repeat(10_000);
        // The pipe takes some, the queue takes NOTICES_MAX, then it is full.
        let told = (0..10 * NOTICES_MAX)
            .take_while(|_| {
                thread::yield_now();
                notices.try_send(Notice::Note { text: text.clone() })
            })
            .count();
        assert!((NOTICES_MAX..10 * NOTICES_MAX).contains(&told), "{told}");
        drop(parent);
    }
}
