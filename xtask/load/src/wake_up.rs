//! Wake-up time: how long a thread takes to run that slept until a datagram came.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use xtask_report::median;

use crate::pin;

/// Median time from the sending of a datagram to the end of the `recv` of a thread that slept on a
/// core that was idle for a millisecond; the sender is on another core.
///
/// It has in it what the system takes to send a datagram through the loopback interface, some
/// microseconds. `cores` are those of both threads; `None` lets the system choose.
///
/// # Errors
///
/// Those of sockets and of pinning.
pub fn wake_up_time(cores: [Option<usize>; 2]) -> io::Result<Duration> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let (sender, sleeper) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
    sender.connect(sleeper.local_addr()?)?;
    sleeper.connect(sender.local_addr()?)?;
    for socket in [&sender, &sleeper] {
        socket.set_read_timeout(Some(TIMEOUT))?;
    }
    let woken = thread::spawn(move || {
        cores[0].map_or(Ok(()), pin)?;
        let times = (0..ROUNDS).map(|_| {
            sleeper.recv(&mut [0])?;
            let now = Instant::now();
            sleeper.send(&[0])?;
            Ok(now)
        });
        times.collect::<io::Result<Vec<Instant>>>()
    });
    let sent = thread::spawn(move || {
        cores[1].map_or(Ok(()), pin)?;
        let times = (0..ROUNDS).map(|_| {
            thread::sleep(IDLE_TIME);
            let now = Instant::now();
            sender.send(&[0])?;
            sender.recv(&mut [0])?;
            Ok(now)
        });
        times.collect::<io::Result<Vec<Instant>>>()
    });
    let join = |thread: thread::JoinHandle<io::Result<Vec<Instant>>>| {
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    };
    let (sent, woken) = (join(sent)?, join(woken)?);
    let times = sent.iter().zip(woken);
    let times = times.map(|(sent, woken)| woken.duration_since(*sent).as_secs_f64());
    let median = median(times.collect()).unwrap_or_default();
    Ok(Duration::from_secs_f64(median))
}

const ROUNDS: usize = 200;

/// Time of sleep before each datagram.
const IDLE_TIME: Duration = Duration::from_millis(1);

/// Longest time to wait for a datagram, which loopback does not lose.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_time_to_wake_up() {
        let time = wake_up_time([None, None]).unwrap();
        assert!(time > Duration::ZERO && time < TIMEOUT, "{time:?}");
    }
}
