//! How many requests a client may have in flight. Their replies cannot be refused once the requests are
//! sent, and how large they will be nobody knows: so a client starts with a small window that grows with
//! every reply, and the replies still to come are reckoned at the size of the largest seen lately.

/// Requests in flight of a client of which no reply is known yet.
const FIRST: u32 = 64;

/// The window of one client.
#[derive(Debug)]
pub struct Window {
    requests: u32,
    /// Largest reply seen lately, in bytes.
    reply: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { requests: FIRST, reply: 0 }
    }
}

impl Window {
    /// A reply of `len` bytes came in.
    #[inline]
    pub fn learn(&mut self, len: usize) {
        self.requests = self.requests.saturating_add(1);
        self.reply = if len >= self.reply { len } else { self.reply - (self.reply - len).div_ceil(64) };
    }

    /// True when one more request may be sent beside `open` ones, with `held` bytes of replies not yet
    /// taken by the client and at most `most` wanted.
    #[inline]
    pub fn is_open(&self, open: u32, held: usize, most: usize) -> bool {
        open < self.requests && held + open as usize * self.reply < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_replies_and_shrinks_with_their_size() {
        let mut window = Window::default();
        assert!(window.is_open(FIRST - 1, 0, 1 << 20) && !window.is_open(FIRST, 0, 1 << 20));
        (0..1000).for_each(|_| window.learn(100));
        assert!(window.is_open(1000, 0, 1 << 20));
        window.learn(1 << 20);
        assert!(!window.is_open(32, 0, 32 << 20) && window.is_open(31, 0, 32 << 20));
        assert!(!window.is_open(1, 31 << 20, 32 << 20));
        (0..1000).for_each(|_| window.learn(100));
        assert!(window.is_open(1000, 0, 32 << 20), "large replies are forgotten");
    }
}
