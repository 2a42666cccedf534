//! One connection of the topology service to a node: dial, handshake, questions and answers. RESP2
//! only. It must never carry a client's request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::node::NodeAddr;
use super::parse::{ParseError, no_error};
use super::settings::TopologyConfig;
use super::view::View;
use super::wire::{Replies, WireError, decode_reply};
use crate::backend::handshake::{Handshake, HandshakeError};
use crate::session::state::Resp;

/// Deadline of one name resolution. Longer than a connect: with the first of two resolvers dead,
/// the system needs five seconds to ask the second.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(6);

/// Most addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 32;

/// Asks for the node's own id.
const MYID: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$4\r\nMYID\r\n";

/// Asks for a sign of life.
pub(crate) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Why a node could not be talked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Resolve(String),
    #[error("{0}")]
    Connect(String),
    #[error("no answer within the deadline")]
    Timeout,
    #[error("connection lost: {0}")]
    Lost(String),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Answer(#[from] ParseError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("another node answers at this address")]
    OtherNode,
    #[error("a sentinel of servers none of which is known here")]
    Stranger,
}

impl LinkError {
    /// How much a reason explains when several nodes fail for different ones; higher is shown.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            LinkError::Handshake(HandshakeError::WrongPassword(_))
            | LinkError::Answer(ParseError::Auth(_)) => 9,
            LinkError::Answer(
                ParseError::ClusterDisabled
                | ParseError::IsCluster
                | ParseError::IsSentinel
                | ParseError::NotSentinel
                | ParseError::UnknownMaster(_),
            )
            | LinkError::Stranger => 8,
            LinkError::Answer(ParseError::Refused(_)) | LinkError::Handshake(HandshakeError::Other(_)) => 7,
            LinkError::Answer(ParseError::Loading) | LinkError::Handshake(HandshakeError::Loading) => 6,
            LinkError::Answer(ParseError::Form(_)) | LinkError::Wire(_) | LinkError::OtherNode => 5,
            LinkError::Handshake(_) => 4,
            LinkError::Timeout | LinkError::Lost(_) => 3,
            LinkError::Connect(_) => 2,
            LinkError::Resolve(_) => 1,
        }
    }
}

/// An open connection whose handshake succeeded.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) replies: Replies,
}

/// All addresses of a host; a literal address needs no resolver.
pub(crate) async fn resolve(addr: &NodeAddr) -> Result<Vec<SocketAddr>, LinkError> {
    let failed = |why: String| LinkError::Resolve(format!("{} cannot be resolved: {why}", addr.host));
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((addr.host.as_str(), addr.port))).await;
    let found = found.map_err(|_| failed("no answer".to_owned()))?.map_err(|e| failed(e.to_string()))?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(failed("no address".to_owned())) } else { Ok(addresses) }
}

impl Link {
    /// Dials a node: its addresses one after the other until one connects.
    pub(crate) async fn dial(addr: &NodeAddr, config: &TopologyConfig) -> Result<Self, LinkError> {
        let mut last = LinkError::Timeout;
        for address in resolve(addr).await? {
            match Self::dial_address(address, config).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Dials one address and goes through the handshake.
    pub(crate) async fn dial_address(
        address: SocketAddr,
        config: &TopologyConfig,
    ) -> Result<Self, LinkError> {
        let stream = match timeout(config.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(LinkError::Connect(error.to_string())),
            Err(_) => return Err(LinkError::Connect("connect timed out".to_owned())),
        };
        let _ = stream.set_nodelay(true);
        let mut link = Self { stream, replies: Replies::default() };
        let shake = Handshake::new(Resp::V2, &config.credentials, &config.client_name, false);
        match timeout(config.connect_timeout, link.shake(&shake)).await {
            Ok(result) => result.map(|()| link),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    async fn shake(&mut self, shake: &Handshake) -> Result<(), LinkError> {
        self.send(shake.bytes()).await?;
        for index in 0..shake.replies() {
            let reply = self.reply().await?;
            match shake.accept(index, &reply) {
                // Alive, and it answers CLUSTER while it loads: the PING will say it again.
                Ok(_) | Err(HandshakeError::Loading) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Checks that the node at this address is the one expected. A node that does not tell its id
    /// (old version, narrow ACL) is believed; so is one that is no cluster node and has none.
    pub(crate) async fn check_id(
        &mut self,
        expected: &str,
        config: &TopologyConfig,
    ) -> Result<(), LinkError> {
        if !config.upstream.is_cluster() {
            return Ok(());
        }
        let id = timeout(config.connect_timeout, async {
            self.send(MYID).await?;
            Ok::<_, LinkError>(decode_reply(&self.reply().await?)?)
        });
        let id = id.await.map_err(|_| LinkError::Timeout)??;
        match no_error(&id) {
            Ok(OwnedFrame::BulkString(id)) if id != expected.as_bytes() => Err(LinkError::OtherNode),
            Err(error @ ParseError::Auth(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// One PING; false when the node says that it is loading. Any other answer is a sign of life.
    pub(crate) async fn ping(&mut self, config: &TopologyConfig) -> Result<bool, LinkError> {
        let pong = timeout(config.connect_timeout, async {
            self.send(PING).await?;
            Ok::<_, LinkError>(decode_reply(&self.reply().await?)?)
        });
        is_usable(&pong.await.map_err(|_| LinkError::Timeout)??)
    }

    /// Asks all questions in one write and waits for the answers.
    pub(crate) async fn ask(
        &mut self,
        dialled: &NodeAddr,
        config: &TopologyConfig,
    ) -> Result<View, LinkError> {
        let (questions, owed) = config.upstream.questions();
        let answers = timeout(config.connect_timeout, async {
            self.send(questions).await?;
            let mut answers = Vec::with_capacity(owed);
            while answers.len() < owed {
                answers.push(decode_reply(&self.reply().await?)?);
            }
            Ok::<_, LinkError>(answers)
        });
        let answers = answers.await.map_err(|_| LinkError::Timeout)??;
        Ok(config.upstream.view(dialled, &answers)?)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(bytes).await.map_err(|e| LinkError::Lost(e.to_string()))
    }

    /// The next reply, raw. Waits for it as long as the caller lets it.
    pub(crate) async fn reply(&mut self) -> Result<Bytes, LinkError> {
        loop {
            if let Some(raw) = self.replies.next_raw()? {
                return Ok(raw);
            }
            match self.stream.read_buf(self.replies.buffer()).await {
                Ok(0) => return Err(LinkError::Lost("closed by the node".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(LinkError::Lost(error.to_string())),
            }
        }
    }
}

/// What an answer to PING says: BUSY and MASTERDOWN are signs of life, LOADING is one of a node that
/// cannot be used yet, NOAUTH is a node that does not let us in.
pub(crate) fn is_usable(answer: &OwnedFrame) -> Result<bool, LinkError> {
    match no_error(answer) {
        Err(ParseError::Loading) => Ok(false),
        Err(error @ ParseError::Auth(_)) => Err(error.into()),
        _ => Ok(true),
    }
}

/// Asks an address once, on a connection of its own.
pub(crate) async fn ask_once(address: SocketAddr, config: &TopologyConfig) -> Result<View, LinkError> {
    let dialled = NodeAddr { host: address.ip().to_string(), port: address.port() };
    let mut link = Link::dial_address(address, config).await?;
    link.ask(&dialled, config).await
}
