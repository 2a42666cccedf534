//! Hash slot of a key (Redis Cluster specification, "Key distribution model" and "Hash tags").

use crc16::{State, XMODEM};
use memchr::memchr;

use crate::topology::table::SLOTS;

/// How the keys of requests become slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySlots {
    /// As in a cluster.
    #[default]
    Hashed,
    /// All keys are in the first slot: one server has them all and takes any of them in one request.
    One,
}

impl KeySlots {
    /// The slot of `key`.
    #[inline]
    pub fn of(self, key: &[u8]) -> u16 {
        match self {
            Self::Hashed => slot_of(key),
            Self::One => 0,
        }
    }
}

/// The slot a key lives in: CRC16 (XMODEM) of its hash tag, modulo 16384.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    crc(hash_tag(key)) % SLOTS as u16
}

/// Bytes taken at once.
const BLOCK: usize = 8;

/// `TABLES[n][b]`: what byte `b` adds to the CRC when `n` more bytes of its block follow.
static TABLES: [[u16; 256]; BLOCK] = tables();

const fn tables() -> [[u16; 256]; BLOCK] {
    let mut tables = [[0u16; 256]; BLOCK];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut more = 1;
    while more < BLOCK {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[more - 1][byte];
            tables[more][byte] = before << 8 ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        more += 1;
    }
    tables
}

/// CRC16 (XMODEM). The crate's byte by byte loop waits for one look-up after the other, which for the
/// usual key was a tenth of the proxy's own work; eight look-ups at once do not wait for each other.
#[inline]
fn crc(bytes: &[u8]) -> u16 {
    if bytes.len() < BLOCK {
        return State::<XMODEM>::calculate(bytes);
    }
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut crc = 0u16;
    for block in blocks {
        let [first, second] = crc.to_be_bytes();
        let at = |more: usize, byte: u8| TABLES[more][usize::from(byte)];
        crc = at(7, block[0] ^ first)
            ^ at(6, block[1] ^ second)
            ^ at(5, block[2])
            ^ at(4, block[3])
            ^ at(3, block[4])
            ^ at(2, block[5])
            ^ at(1, block[6])
            ^ at(0, block[7]);
    }
    for &byte in rest {
        crc = crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
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
        #![proptest_config(crate::worker::testkit::cases(256))]

        #[test]
        fn equals_the_oracle(key in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), any::<u8>()], 0..40)) {
            prop_assert_eq!(slot_of(&key), redis_protocol::redis_keyslot(&key));
        }
    }
}
