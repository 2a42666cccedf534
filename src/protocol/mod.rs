//! Bytes to frames and back. No I/O, no async, nothing here waits or knows a socket.

pub mod encode;
pub mod inline;
pub mod reply;
pub mod request;
pub mod scan;

/// Bounds on what one request may be; each is a config key of the same name.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest bulk string in bytes (`bulk-bytes-max`; Redis' `proto-max-bulk-len`).
    pub bulk_bytes: u64,
    /// Most arguments of one request (`array-elements-max`).
    pub elements: u64,
    /// Longest inline command or header line in bytes (`inline-bytes-max`).
    pub inline_bytes: usize,
    /// Longest request in bytes (`query-buffer-max`; Redis' `client-query-buffer-limit`); below 4 GiB.
    pub request_bytes: u64,
}

impl Limits {
    /// What Redis allows a client that has not authenticated yet (networking.c, since 6.2.6).
    pub fn unauthenticated(self) -> Self {
        Self { bulk_bytes: self.bulk_bytes.min(16 * 1024), elements: self.elements.min(10), ..self }
    }

    /// For requests that were accepted before.
    pub fn unlimited() -> Self {
        Self {
            bulk_bytes: u64::MAX >> 1,
            elements: u64::MAX,
            inline_bytes: usize::MAX,
            request_bytes: u64::MAX,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk_bytes: 512 << 20, elements: 1 << 20, inline_bytes: 64 << 10, request_bytes: 1 << 30 }
    }
}

/// A request that can't be read on. The text is Redis' own (networking.c) where Redis has one; the
/// connection is closed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text says it")]
pub enum ProtocolError {
    #[error("invalid multibulk length")]
    MultibulkLength,
    #[error("unauthenticated multibulk length")]
    UnauthenticatedMultibulk,
    #[error("too big mbulk count string")]
    MultibulkLine,
    #[error("invalid bulk length")]
    BulkLength,
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulk,
    #[error("too big bulk count string")]
    BulkLine,
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("too big inline request")]
    InlineTooBig,
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("request is longer than query-buffer-max")]
    RequestTooBig,
}
