//! How a wait ends before its time: its client is gone, another client says CLIENT UNBLOCK, or the process
//! stops. Owns the word that tells the operation; what then happens at the node is `visit`'s business.

use std::time::Duration;

use super::Operation;
use crate::error::ProxyError;
use crate::session::SessionInner;

/// Why a wait ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// CLIENT UNBLOCK TIMEOUT: as if its time were over.
    Timeout,
    /// CLIENT UNBLOCK ERROR.
    Error,
    /// The process stops.
    Shutdown,
    /// The client closed its side.
    Gone,
}

/// What Redis says after CLIENT UNBLOCK ERROR.
pub const UNBLOCKED: &[u8] = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";

impl Operation {
    /// Waits until the wait is to end.
    pub async fn ending(&self) -> Ending {
        loop {
            let told = self.progress.told.notified();
            if let Some(ending) = self.progress.ending.get() {
                return ending;
            }
            told.await;
        }
    }

    /// The same, and `grace` on top.
    pub async fn ending_and(&self, grace: Duration) -> Ending {
        let ending = self.ending().await;
        if !grace.is_zero() {
            tokio::time::sleep(grace).await;
        }
        ending
    }

    /// Why the wait is to end, if it is.
    pub fn ended(&self) -> Option<Ending> {
        self.progress.ending.get()
    }

    /// The client is gone, nobody gets a reply. The session ends, and this operation with it.
    pub async fn give_up<T>(&self) -> T {
        {
            let mut inner = self.session.inner();
            inner.broken = Some(crate::telemetry::CloseReason::Client);
            inner.wake();
        }
        std::future::pending().await
    }

    /// The reply to a wait that was ended here, not at a node. `null` is that of a wait whose time is over.
    ///
    /// # Errors
    /// The process stops, and the wait had no end.
    pub async fn reply_to_ended(
        &self,
        ending: Ending,
        null: Vec<u8>,
        endless: bool,
    ) -> Result<Vec<u8>, ProxyError> {
        match ending {
            Ending::Shutdown if endless => Err(ProxyError::Unblocked),
            Ending::Timeout | Ending::Shutdown => Ok(null),
            Ending::Error => Ok(UNBLOCKED.to_vec()),
            Ending::Gone => self.give_up().await,
        }
    }
}

impl SessionInner {
    /// Ends the wait of a blocking command; false when this client does not wait, or its wait ends already.
    pub fn end_wait(&mut self, ending: Ending) -> bool {
        let Some(progress) = self.operation.as_ref().filter(|running| running.waits).map(|r| &r.progress)
        else {
            return false;
        };
        let first = progress.ending.get().is_none();
        if progress.ending.get() < Some(ending) {
            progress.ending.set(Some(ending));
            progress.told.notify_waiters();
        }
        first
    }

    /// True while a command runs that waits at a node as long as its client does.
    pub fn is_waiting(&self) -> bool {
        self.operation.as_ref().is_some_and(|running| running.waits)
    }
}
