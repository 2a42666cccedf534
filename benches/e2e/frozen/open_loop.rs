//! The load generator at a fixed rate: an open loop over many connections.
//!
//! Owns the sockets of one measurement. One thread sends every request at its moment whether or not earlier ones have been
//! answered, another reads. A latency begins at the moment a request was due, not when it was sent: what a slow reply or a
//! late sender delays is counted, not left out. The threads share nothing but the sockets, for both know the schedule.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::freezer::Freezer;
use super::phases::{Count, PHASES, Phases};
use super::replies::{Ending, Inbox, Judge};
use super::schedule::{CONNECTIONS, Key, Schedule, Side};
use crate::Result;
use crate::histogram::Histogram;

const READ_BYTES: usize = 64 * 1024;
/// A target that sends nothing at all for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time between the last connection and the first request.
const LEAD: Duration = Duration::from_millis(50);

/// One connection as the reading thread sees it.
#[derive(Default)]
struct Reader {
    inbox: Inbox,
    answered: usize,
}

struct Receiver<'a> {
    schedule: &'a Schedule,
    phases: &'a Phases,
    judge: Judge<'a>,
    start: Instant,
    readers: Vec<Reader>,
    counts: [Count; PHASES],
    answered: usize,
}

/// Sends the schedule, freezes and wakes the node at the borders of its phase, and counts what came of it.
///
/// # Errors
/// When a reply is not that of its request, or the target closes a connection or falls silent.
pub fn run(
    addr: SocketAddr,
    keys: &[Key],
    schedule: &Schedule,
    phases: &Phases,
    freezer: &mut Freezer,
) -> Result<[Count; PHASES]> {
    let mut poll = Poll::new()?;
    let mut streams = Vec::with_capacity(2 * CONNECTIONS);
    for index in 0..2 * CONNECTIONS {
        let stream = std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        streams.push(stream);
    }
    let start = Instant::now() + LEAD;
    let judge = Judge::new(keys, schedule);
    let readers = std::iter::repeat_with(Reader::default).take(streams.len()).collect();
    let mut receiver =
        Receiver { schedule, phases, judge, start, readers, counts: Default::default(), answered: 0 };
    let (sent, received) = std::thread::scope(|scope| {
        // A failure crosses to the other thread as text.
        let sender = scope
            .spawn(|| send(&streams, schedule, phases, start, freezer).map_err(|error| error.to_string()));
        let received = receiver.receive(&mut poll, &streams);
        (sender.join(), received)
    });
    let late = sent.map_err(|_| "the sending thread panicked")?;
    received?;
    for (count, late) in receiver.counts.iter_mut().zip(late?) {
        count.late = late;
    }
    Ok(receiver.counts)
}

/// Sends every request when it is due; how late each was, by phase.
fn send(
    streams: &[TcpStream],
    schedule: &Schedule,
    phases: &Phases,
    start: Instant,
    freezer: &mut Freezer,
) -> Result<[Histogram; PHASES]> {
    sleep_exactly();
    let mut late: [Histogram; PHASES] = Default::default();
    let (mut frozen, mut woken) = (false, false);
    for (place, request) in schedule.requests.iter().enumerate() {
        let due = start + request.due;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if !frozen && request.due >= phases.freeze_at() {
            freezer.freeze()?;
            frozen = true;
        }
        if !woken && request.due >= phases.wake_at() {
            freezer.wake()?;
            woken = true;
        }
        if let Some(late) = phases.of(request.due).and_then(|phase| late.get_mut(phase)) {
            late.record(Instant::now() - due);
        }
        let (bytes, _) = schedule.pool.batch(place, 1);
        let bytes = schedule.pool.bytes(bytes);
        let Some(mut stream) = streams.get(request.connection) else { continue };
        match stream.write(bytes) {
            Ok(written) if written == bytes.len() => {}
            // The kernel's buffer holds seconds of requests.
            Ok(_) => return Err("the target does not read any more".into()),
            Err(error) => return Err(format!("write: {error}").into()),
        }
    }
    Ok(late)
}

/// By default the kernel wakes a thread up to 50 µs late to wake several at once. Where that cannot be changed it counts as
/// lateness of the sender, which is reported.
fn sleep_exactly() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = thread.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let _ = std::fs::write(format!("/proc/{number}/timerslack_ns"), "1");
}

impl Receiver<'_> {
    fn receive(&mut self, poll: &mut Poll, streams: &[TcpStream]) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; READ_BYTES];
        let owed = self.schedule.requests.len();
        while self.answered < owed {
            poll.poll(&mut events, Some(SILENCE_MAX))?;
            if events.is_empty() {
                let answered = self.answered;
                return Err(format!("silent for {SILENCE_MAX:?}, {answered} of {owed} answered").into());
            }
            for event in &events {
                let index = event.token().0;
                let Some(stream) = streams.get(index) else { continue };
                self.read(index, stream, &mut buffer)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, mut stream: &TcpStream, buffer: &mut [u8]) -> Result<()> {
        loop {
            let count = match stream.read(buffer) {
                Ok(0) => return Err("the target closed a connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("read: {error}").into()),
            };
            let elapsed = self.start.elapsed();
            self.take(index, buffer.get(..count).unwrap_or_default(), elapsed)?;
            // The socket is empty after a short read; the next bytes raise a new event.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Judges and counts every whole reply that is there now, `elapsed` after the start.
    fn take(&mut self, index: usize, bytes: &[u8], elapsed: Duration) -> Result<()> {
        let (Some(reader), Some(own)) = (self.readers.get_mut(index), self.schedule.by_connection.get(index))
        else {
            return Err("no such connection".into());
        };
        reader.inbox.feed(bytes);
        while let Some(reply) = reader.inbox.next()? {
            let place = *own.get(reader.answered).ok_or("more replies than requests")?;
            let request = self.schedule.requests.get(place).ok_or("no such request")?;
            if request.due > elapsed {
                return Err("a reply came before its request".into());
            }
            let ending = self.judge.judge(place, &reply)?;
            reader.answered += 1;
            self.answered += 1;
            let Some(count) = self.phases.of(request.due).and_then(|phase| self.counts.get_mut(phase)) else {
                continue;
            };
            let side = if index < CONNECTIONS { Side::Others } else { Side::Frozen };
            count.add(side, ending == Ending::Deadline, elapsed - request.due);
        }
        Ok(())
    }
}
