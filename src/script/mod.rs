//! Scripts by their SHA1: which bodies this process has seen, so that EVALSHA works on a node that has never
//! heard of the script. Owns the bodies (bounded by `script-cache-bytes`, the least recently used go first).
//! Off the path of requests but for EVAL and EVALSHA, and a worker that uses one script again and again tells it
//! now and then only.

pub mod keyless;

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lru::LruCache;
use sha1::{Digest, Sha1};

/// A script's name: the SHA1 of its body.
pub type Sha = [u8; 20];

/// The name of a body.
pub fn sha_of(body: &[u8]) -> Sha {
    Sha1::digest(body).into()
}

/// Reads 40 hexadecimal digits in any letter case, as EVALSHA does.
pub fn parse_sha(text: &[u8]) -> Option<Sha> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut sha = [0; 20];
    if text.len() != 40 {
        return None;
    }
    for (byte, pair) in sha.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(sha)
}

/// Bodies seen by this process.
#[derive(Debug)]
pub struct ScriptCache {
    bodies: Mutex<Bodies>,
    /// Grows when scripts are forgotten everywhere: what lanes remember of an older one counts no more.
    generation: AtomicU64,
    /// Grows whenever a body goes, for whatever reason.
    removals: AtomicU64,
    limit: u64,
}

#[derive(Debug)]
struct Bodies {
    by_sha: LruCache<Sha, Bytes>,
    bytes: u64,
}

/// Counted for each body beside its bytes.
const OVERHEAD: u64 = 128;
/// Most bodies, however small.
const BODIES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);

impl ScriptCache {
    /// For bodies of at most `limit` bytes together.
    pub fn new(limit: u64) -> Self {
        let bodies = Bodies { by_sha: LruCache::unbounded(), bytes: 0 };
        Self { bodies: Mutex::new(bodies), generation: AtomicU64::new(1), removals: AtomicU64::new(0), limit }
    }

    fn bodies(&self) -> std::sync::MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers a body, which is used now. One that is larger than the whole cache is not kept. Returns
    /// `removals` as of then.
    pub fn note(&self, sha: Sha, body: &[u8]) -> u64 {
        let cost = body.len() as u64 + OVERHEAD;
        if cost > self.limit {
            return self.removals();
        }
        let mut bodies = self.bodies();
        if bodies.by_sha.get(&sha).is_some() {
            return self.removals();
        }
        bodies.by_sha.put(sha, Bytes::copy_from_slice(body));
        bodies.bytes += cost;
        while (bodies.bytes > self.limit || bodies.by_sha.len() > BODIES_MAX.get())
            && let Some((_, oldest)) = bodies.by_sha.pop_lru()
        {
            self.removed(&mut bodies, &oldest);
        }
        self.removals()
    }

    fn removed(&self, bodies: &mut Bodies, body: &Bytes) {
        bodies.bytes -= body.len() as u64 + OVERHEAD;
        self.removals.fetch_add(1, Ordering::Release);
    }

    /// A script is used now. `removals` as of then, if its body is known.
    pub fn touch(&self, sha: &Sha) -> Option<u64> {
        let mut bodies = self.bodies();
        bodies.by_sha.get(sha).map(|_| self.removals())
    }

    /// Differs from before when a body was given up, here or by another worker.
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    /// True when no body is ever kept.
    pub fn is_off(&self) -> bool {
        self.limit <= OVERHEAD
    }

    /// The body of a script, if it is known.
    pub fn body(&self, sha: &Sha) -> Option<Bytes> {
        self.bodies().by_sha.get(sha).cloned()
    }

    /// Forgets a body.
    pub fn forget(&self, sha: &Sha) {
        let mut bodies = self.bodies();
        if let Some(body) = bodies.by_sha.pop(sha) {
            self.removed(&mut bodies, &body);
        }
    }

    /// SCRIPT FLUSH went through: nothing is known any more, here and on the nodes.
    pub fn clear(&self) {
        let mut bodies = self.bodies();
        bodies.by_sha.clear();
        bodies.bytes = 0;
        self.removals.fetch_add(1, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Differs from before when scripts were flushed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bodies().bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn names_as_redis_does() {
        // SCRIPT LOAD "return 1" on a redis-server says so.
        let sha = parse_sha(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db").unwrap();
        assert_eq!(sha_of(b"return 1"), sha);
        assert_eq!(parse_sha(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(sha));
        for bad in [&b""[..], b"e0e1", &[b'g'; 40], &[b'a'; 41]] {
            assert_eq!(parse_sha(bad), None);
        }
    }

    #[test]
    fn bounded_by_bytes_and_the_oldest_goes_first() {
        let cache = ScriptCache::new(3 * (OVERHEAD + 10));
        let body = |n: u8| vec![n; 10];
        let note = |n| cache.note(sha_of(&body(n)), &body(n));
        (0..3).for_each(|n| assert_eq!(note(n), 0));
        assert!(cache.body(&sha_of(&body(0))).is_some());
        assert_eq!(note(3), 1, "one went");
        assert!(cache.body(&sha_of(&body(1))).is_none(), "the one not used for longest");
        assert_eq!((cache.touch(&sha_of(&body(1))), cache.touch(&sha_of(&body(2)))), (None, Some(1)));
        note(4);
        assert!(cache.body(&sha_of(&body(2))).is_some() && cache.body(&sha_of(&body(3))).is_some());
        note(0);
        assert_eq!(cache.body(&sha_of(&body(0))).as_deref(), Some(&body(0)[..]));
        assert_eq!(cache.bytes(), 3 * (OVERHEAD + 10));
        cache.note(sha_of(&[9; 10_000]), &[9; 10_000]);
        assert_eq!(cache.bytes(), 3 * (OVERHEAD + 10), "too large to be kept");
        let before = (cache.generation(), cache.removals());
        cache.clear();
        assert!(cache.bytes() == 0 && cache.generation() != before.0 && cache.removals() != before.1);
    }
}
