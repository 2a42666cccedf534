//! Puts replies of our own between the elements of an EXEC reply: commands that the proxy answers itself
//! are not in what the node was sent. An EXEC that answers null or an error passes as it is. Pure.

use crate::protocol::encode;
use crate::protocol::reply::array_elements;

/// Replies of our own, by their place in the transaction.
#[derive(Debug)]
pub struct Splice {
    total: usize,
    own: Vec<(usize, Vec<u8>)>,
    bytes: usize,
}

impl Splice {
    /// For a transaction of `total` commands.
    pub fn new(total: usize) -> Self {
        Self { total, own: Vec::new(), bytes: 0 }
    }

    /// The reply to command `index`; to be added in order.
    pub fn add(&mut self, index: usize, frame: Vec<u8>) {
        self.bytes += size_of::<(usize, Vec<u8>)>() + frame.len();
        self.own.push((index, frame));
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when all replies come from the node.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The whole reply, made of the node's; `None` when the node's is to be passed on as it is.
    pub fn apply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let sent = self.total.checked_sub(self.own.len())?;
        let mut elements = Vec::with_capacity(sent);
        if !array_elements(frame, sent, |_, start, len| elements.push((start, len))) {
            return None;
        }
        let mut out =
            Vec::with_capacity(frame.len() + self.own.iter().map(|(_, own)| own.len()).sum::<usize>());
        encode::array(&mut out, self.total);
        let (mut elements, mut own) = (elements.into_iter(), self.own.iter().peekable());
        for index in 0..self.total {
            if let Some((_, reply)) = own.next_if(|(at, _)| *at == index) {
                out.extend_from_slice(reply);
            } else if let Some((start, len)) = elements.next() {
                out.extend_from_slice(frame.get(start..start + len).unwrap_or(&[]));
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_replies_stand_in_their_places() {
        let mut splice = Splice::new(4);
        splice.add(0, b"+PONG\r\n".to_vec());
        splice.add(2, b"$1\r\nx\r\n".to_vec());
        let whole = splice.apply(b"*2\r\n*1\r\n:1\r\n-ERR x\r\n");
        assert_eq!(whole.as_deref(), Some(&b"*4\r\n+PONG\r\n*1\r\n:1\r\n$1\r\nx\r\n-ERR x\r\n"[..]));
        for other in [&b"*-1\r\n"[..], b"_\r\n", b"-EXECABORT x\r\n", b"*1\r\n:1\r\n"] {
            assert_eq!(splice.apply(other), None);
        }
    }

    #[test]
    fn all_of_it_can_be_ours() {
        let mut splice = Splice::new(1);
        splice.add(0, b"+PONG\r\n".to_vec());
        assert_eq!(splice.apply(b"*0\r\n").as_deref(), Some(&b"*1\r\n+PONG\r\n"[..]));
    }
}
