//! A client that speaks bytes: it sends what it is told, split as it is told, and hands back replies
//! as they stood on the wire. Blocking, with a read timeout so that a lost reply fails the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::resp::{Cutter, Value, frame, parse, show};

/// One request frame from strings and byte strings of any mix.
#[macro_export]
macro_rules! cmd {
    ($($arg:expr),+ $(,)?) => {
        $crate::support::resp::frame(&[$(AsRef::<[u8]>::as_ref(&$arg)),+])
    };
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    got: Vec<u8>,
    /// Where the unread part of `got` begins.
    at: usize,
}

impl Client {
    /// Connects; a read that gets nothing for 20 s fails.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|e| panic!("connect to {addr}: {e}"))
    }

    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream, got: Vec::new(), at: 0 })
    }

    /// Connects and says HELLO 3.
    #[track_caller]
    pub fn connect_resp3(addr: SocketAddr) -> Self {
        let mut client = Self::connect(addr);
        let hello = client.call(&cmd!["HELLO", "3"]);
        assert!(matches!(hello, Value::Map(_)), "HELLO 3: {hello:?}");
        client
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// How long a read may wait for its next byte.
    pub fn patience(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("read timeout");
    }

    /// Sends bytes in one write.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|e| panic!("send {}: {e}", show(bytes)));
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes in pieces of at most `largest` (sizes drawn from `random`), each its own segment.
    #[track_caller]
    pub fn send_split(&mut self, bytes: &[u8], largest: usize, random: &mut fastrand::Rng) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=largest.min(rest.len())));
            self.send(piece);
            rest = after;
        }
    }

    /// The bytes of the next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply()
            .unwrap_or_else(|e| panic!("no reply: {e}; unfinished: {}", show(&self.got[self.at..])))
    }

    /// The bytes of the next reply, or why there is none; `UnexpectedEof` at a clean end.
    pub fn try_reply(&mut self) -> std::io::Result<Vec<u8>> {
        let mut cutter = Cutter::default();
        loop {
            if let Some(length) = cutter.cut(&self.got[self.at..]) {
                let reply = self.got[self.at..self.at + length].to_vec();
                self.at += length;
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        if self.at > 0 {
            self.got.drain(..self.at);
            self.at = 0;
        }
        let start = self.got.len();
        self.got.resize(start + (start / 2).clamp(64 * 1024, 8 * 1024 * 1024), 0);
        let result = self.stream.read(&mut self.got[start..]);
        self.got.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The next reply, decoded.
    #[track_caller]
    pub fn value(&mut self) -> Value {
        parse(&self.reply())
    }

    /// The next `count` replies, decoded.
    #[track_caller]
    pub fn values(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.value()).collect()
    }

    /// Sends one request (or any bytes that make one) and reads its reply, decoded.
    #[track_caller]
    pub fn call(&mut self, request: &[u8]) -> Value {
        self.send(request);
        self.value()
    }

    /// As `call`, but the reply's bytes.
    #[track_caller]
    pub fn raw(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        self.reply()
    }

    /// `raw` that reports a broken connection instead of failing.
    pub fn try_raw(&mut self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        self.try_send(request)?;
        self.try_reply()
    }

    /// A call that must not be answered with an error.
    #[track_caller]
    pub fn ok(&mut self, request: &[u8]) -> Value {
        let value = self.call(request);
        assert!(!value.is_error(), "{} was answered {value:?}", show(request));
        value
    }

    /// Everything up to the end of the stream; a reset counts as the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => break,
                Err(e) => panic!("the connection was not closed: {e}; got {}", show(&self.got[self.at..])),
            }
        }
        let rest = self.got.split_off(self.at);
        self.got.clear();
        self.at = 0;
        rest
    }

    /// Says that nothing more will be sent, and keeps reading.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Drops the connection with a reset instead of a FIN.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
}

/// A frame from words separated by blanks; for tests whose arguments are plain words.
pub fn words(line: &str) -> Vec<u8> {
    let args: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
    frame(&args)
}
