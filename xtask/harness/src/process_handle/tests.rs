//! Tests with real processes: this test executable again, running one of the two ignored functions
//! below, which do nothing unless started here.

use std::{
    io::{BufRead, Read},
    sync::mpsc,
    thread,
    time::Duration,
};

use rpcnet_testing::TEST_TIMEOUT;

use super::*;
use crate::{
    ChildEvent, ORPHANED, ParentLink, ProcessGroup,
    test_protocol::{Notice, Order},
};

const STARTED_HERE: &str = "RPCNET_CHILD_PROCESS_TEST";

fn deadline() -> Instant {
    Instant::now() + TEST_TIMEOUT
}

/// This executable as the ignored test function `name`.
fn as_test(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    let path = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    // Two threads, so that the harness prints the test's name only after its end.
    command.args([
        "--exact",
        &path,
        "--ignored",
        "--nocapture",
        "--test-threads=2",
    ]);
    command.env(STARTED_HERE, "1");
    command
}

#[test]
#[ignore = "the child of other tests"]
fn child() {
    if env::var_os(STARTED_HERE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut link = ParentLink::open().unwrap();
        link.notices()
            .send(Notice::Ready {
                addr: ([127, 0, 0, 1], 9).into(),
            })
            .await;
        while let Some(order) = link.next_order().await {
            match order {
                Order::Drain => break,
                Order::Fail => {
                    let error = io::Error::other("no disk");
                    link.fail(&error).await;
                    std::process::exit(1);
                }
                // Blocks the runtime, as a hanging child would.
                Order::Hang => thread::sleep(Duration::MAX),
                other => {
                    let text = format!("{other:?}");
                    link.notices().send(Notice::Note { text }).await;
                }
            }
        }
        link.close().await;
    });
    std::process::exit(0);
}

#[test]
#[ignore = "the parent that another test kills"]
fn parent() {
    if env::var_os(STARTED_HERE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut child = ready_child().await;
        child.send(&Order::Hang).await.unwrap();
        eprintln!("child is up");
        std::future::pending::<()>().await;
    });
}

async fn ready_child() -> ChildProcess {
    let mut child = ChildProcess::spawn("child", as_test("child")).unwrap();
    let notice: Notice = child.recv_by(deadline(), "start").await.unwrap();
    assert_eq!(
        notice,
        Notice::Ready {
            addr: ([127, 0, 0, 1], 9).into()
        }
    );
    child
}

#[tokio::test]
async fn a_child_takes_orders_and_ends_when_drained() {
    let mut child = ready_child().await;
    assert_eq!(child.name(), "child");
    let echo = Order::Echo { text: "x".into() };
    child.send(&echo).await.unwrap();
    let notice: Notice = child.recv_by(deadline(), "answer").await.unwrap();
    assert_eq!(
        notice,
        Notice::Note {
            text: format!("{echo:?}")
        }
    );
    child.send(&Order::Drain).await.unwrap();
    let ended = child.recv_by::<Notice>(deadline(), "end").await;
    assert!(matches!(ended, Err(ProcessError::Ended(_))), "{ended:?}");
    assert!(child.wait_by(deadline()).await.unwrap().success());
}

#[tokio::test]
async fn a_silent_child_times_out_and_can_still_be_used() {
    let mut child = ready_child().await;
    let soon = Instant::now() + Duration::from_millis(20);
    let error = child.recv_by::<Notice>(soon, "speak").await.unwrap_err();
    assert_eq!(error.to_string(), "child took too long to speak");
    child.send(&Order::Echo { text: "x".into() }).await.unwrap();
    child.recv_by::<Notice>(deadline(), "answer").await.unwrap();
}

#[tokio::test]
async fn a_group_tells_what_any_of_its_children_does() {
    let mut group = ProcessGroup::new("test").unwrap();
    let echo = Order::Echo { text: "x".into() };
    for name in ["one", "two", "three"] {
        group.start(name, as_test("child"), &echo).await.unwrap();
    }
    group.send("two", &Order::Fail).await.unwrap();
    group.send("three", &Order::Drain).await.unwrap();
    let (mut notices, mut ends) = (0, Vec::new());
    while notices < 6 || ends.len() < 2 {
        let next = timeout_at(deadline(), group.next::<Notice>());
        match next.await.unwrap() {
            (_, Ok(ChildEvent::Notice(_))) => notices += 1,
            (name, Ok(ChildEvent::Ended(status))) => ends.push(format!("{name} {status}")),
            (_, Err(error)) => ends.push(error.to_string()),
        }
    }
    ends.sort();
    assert_eq!(ends, ["three exit status: 0", "two: no disk"]);
    group.kill("one").await.unwrap();
    let gone = group.send("three", &echo).await.unwrap_err();
    assert_eq!(gone.to_string(), "three does not run");
}

#[cfg(unix)]
#[tokio::test]
async fn a_killed_child_ends_at_once() {
    use std::os::unix::process::ExitStatusExt;

    let mut child = ready_child().await;
    assert!(child.id().is_some());
    child.kill().await.unwrap();
    assert_eq!(child.wait_by(deadline()).await.unwrap().signal(), Some(9));
    assert_eq!(child.id(), None);
    assert!(child.send(&Order::Drain).await.is_err());
}

#[tokio::test]
async fn a_child_with_a_blocked_runtime_ends_with_its_input() {
    let mut child = ready_child().await;
    child.send(&Order::Hang).await.unwrap();
    let still = child
        .wait_by(Instant::now() + Duration::from_millis(20))
        .await;
    assert!(
        matches!(still, Err(ProcessError::TimedOut(..))),
        "{still:?}"
    );
    let ChildProcess {
        child: mut process,
        stdin,
        ..
    } = child;
    drop(stdin);
    let status = timeout_at(deadline(), process.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(ORPHANED));
}

/// Both the parent and its child hold the same standard error: it ends when the last of them does.
#[test]
fn a_parent_that_is_killed_leaves_no_child_behind() {
    let mut command = as_test("parent");
    let mut parent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = parent.stderr.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stderr = io::BufReader::new(stderr);
        let mut line = String::new();
        while !line.contains("child is up") {
            line.clear();
            assert!(
                stderr.read_line(&mut line).unwrap() > 0,
                "ended before the child was up"
            );
        }
        sender.send("up").unwrap();
        stderr.read_to_end(&mut Vec::new()).unwrap();
        sender.send("gone").unwrap();
    });
    assert_eq!(receiver.recv_timeout(TEST_TIMEOUT).unwrap(), "up");
    assert!(receiver.try_recv().is_err(), "both still run");
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_eq!(receiver.recv_timeout(TEST_TIMEOUT).unwrap(), "gone");
}

#[tokio::test]
async fn a_dropped_child_is_killed() {
    let mut command = as_test("child");
    let (mut reader, writer) = io::pipe().unwrap();
    command.stderr(writer);
    let mut child = ChildProcess::spawn("child", command).unwrap();
    let _: Notice = child.recv_by(deadline(), "start").await.unwrap();
    // Keeping its input open shows that the drop kills, and not the end of the input.
    let ChildProcess {
        child: process,
        stdin,
        stdout,
        ..
    } = child;
    drop(process);
    let ended = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
    timeout_at(deadline(), ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    drop((stdin, stdout));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let error = ChildProcess::spawn("ghost", Command::new("no-such-program")).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot start ghost"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_are_bounded_and_reassembled() {
    let long = [&b"x".repeat(LINE_BYTES_MAX - 1)[..], b"\n"].concat();
    let input = [&long[..], b"ab\n\ncut"].concat();
    // A tiny buffer cuts every line.
    let mut lines = Lines {
        reader: BufReader::with_capacity(1000, &input[..]),
        partial: Vec::new(),
    };
    assert_eq!(
        lines.next().await.unwrap().unwrap().len(),
        LINE_BYTES_MAX - 1
    );
    assert_eq!(lines.next().await.unwrap().unwrap(), b"ab");
    assert_eq!(lines.next().await.unwrap().unwrap(), b"");
    assert_eq!(lines.next().await.unwrap(), None);

    let input = b"x".repeat(LINE_BYTES_MAX);
    let mut lines = Lines {
        reader: &input[..],
        partial: Vec::new(),
    };
    assert!(lines.next().await.is_err());
}
