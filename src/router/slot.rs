//! Hash slot of a key (Redis Cluster specification, "Key distribution model" and "Hash tags").

use crc16::{State, XMODEM};
use memchr::memchr;

use crate::topology::table::SLOTS;

/// The slot a key lives in: CRC16 (XMODEM) of its hash tag, modulo 16384.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    State::<XMODEM>::calculate(hash_tag(key)) % SLOTS as u16
}

/// The part of the key that is hashed: between the first `{` and the first `}` after it, unless that
/// is empty; otherwise the whole key.
#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr(b'{', key) else { return key };
    let rest = key.get(open + 1..).unwrap_or(&[]);
    match memchr(b'}', rest) {
        Some(0) | None => key,
        Some(close) => rest.get(..close).unwrap_or(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_value_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3);
    }

    #[test]
    fn hash_tag_corner_cases() {
        assert_eq!(hash_tag(b"{}"), b"{}");
        assert_eq!(hash_tag(b"{}{a}"), b"{}{a}");
        assert_eq!(hash_tag(b"a{"), b"a{");
        assert_eq!(hash_tag(b"}{a}"), b"a");
        assert_eq!(hash_tag(b"{{a}}"), b"{a");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b""), b"");
    }

    proptest! {
        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), any::<u8>()], 0..40)) {
            prop_assert_eq!(slot_of(&key), redis_protocol::redis_keyslot(&key));
        }
    }
}
