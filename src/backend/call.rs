//! A request of the proxy's own on a lane: its reply wakes the operation that asked. Owns the frames until
//! they are taken. Follows no redirect and repeats nothing: that is the operation's business.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::worker::budget::{Budget, Held};

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The connection was lost before the last byte was handed to the kernel: not executed.
    #[error("the connection was lost before the request was sent")]
    Unsent,
    /// The connection was lost later: it may have been executed.
    #[error("the connection was lost")]
    Lost,
    /// The reply is larger than what the operation takes; it was executed.
    #[error("the reply is too large")]
    TooLarge,
    /// The node's queue is full: not executed.
    #[error("the node's queue is full")]
    QueueFull,
    /// `request-deadline` passed before the reply: it may have been executed.
    #[error("no reply within request-deadline")]
    Late,
    /// No reachable node for longer than `owner-wait`: not executed.
    #[error("no reachable node")]
    NoNode,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    state: RefCell<State>,
    room: Rc<Room>,
    held: Held,
}

/// Room for the replies of all calls that share it.
#[derive(Debug)]
pub struct Room {
    left: Cell<u64>,
    /// What calls make theirs of.
    held: Held,
}

impl Room {
    /// For `bytes`.
    pub fn new(bytes: u64, budget: &Budget) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(bytes), held: budget.hold(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes as u64);
        if let Some(left) = left {
            self.left.set(left);
        }
        left.is_some()
    }
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Bytes>,
    wanted: u16,
    error: Option<CallError>,
    waker: Option<Waker>,
}

impl Call {
    /// Waits for `wanted` frames, for which there is `room`.
    pub fn new(wanted: u16, room: Rc<Room>) -> Rc<Self> {
        let held = room.held.another();
        Rc::new(Self { state: RefCell::new(State { wanted, ..State::default() }), room, held })
    }

    /// A frame came in. What nobody waits for any more costs nothing.
    pub fn push(&self, frame: &[u8], shared: Option<Bytes>) {
        let mut state = self.state.borrow_mut();
        if state.error.is_none() && self.room.take(frame.len()) {
            self.held.add(frame.len());
            state.frames.push(shared.unwrap_or_else(|| Bytes::copy_from_slice(frame)));
        } else {
            state.error = Some(CallError::TooLarge);
            state.frames = Vec::new();
        }
        state.wanted = state.wanted.saturating_sub(1);
        state.wake();
    }

    /// There will be no reply.
    pub fn fail(&self, error: CallError) {
        let mut state = self.state.borrow_mut();
        if state.wanted > 0 {
            state.wanted = 0;
            state.error = Some(error);
            state.wake();
        }
    }

    /// The frames, when all have come.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn frames(&self) -> Result<Vec<Bytes>, CallError> {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.wanted > 0 {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.error.map_or_else(|| Ok(std::mem::take(&mut state.frames)), Err))
        })
        .await
    }

    /// The one frame it waits for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn frame(&self) -> Result<Bytes, CallError> {
        Ok(self.frames().await?.pop().unwrap_or_default())
    }
}

impl State {
    fn wake(&mut self) {
        if self.wanted == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testkit::block_on;

    #[test]
    fn frames_in_order_once_all_are_there() {
        block_on(async {
            let call = Call::new(2, Room::new(100, &Budget::default()));
            call.push(b"+a\r\n", None);
            call.push(b"+b\r\n", Some(Bytes::from_static(b"+b\r\n")));
            call.fail(CallError::Lost);
            let frames = call.frames().await;
            assert_eq!(frames, Ok(vec![Bytes::from_static(b"+a\r\n"), Bytes::from_static(b"+b\r\n")]));
        });
    }

    #[test]
    fn too_large_and_lost() {
        block_on(async {
            let call = Call::new(1, Room::new(3, &Budget::default()));
            call.push(b"+abc\r\n", None);
            assert_eq!(call.frame().await, Err(CallError::TooLarge));
            let call = Call::new(2, Room::new(100, &Budget::default()));
            call.push(b"+a\r\n", None);
            call.fail(CallError::Unsent);
            call.fail(CallError::Lost);
            assert_eq!(call.frames().await, Err(CallError::Unsent), "the first word counts");
        });
    }
}
