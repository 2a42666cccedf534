//! RESP encoding of the replies the proxy makes itself.
//!
//! Every function appends to the buffer it is given. Must never be used on a reply of a node: those
//! pass as the bytes they came in.

use crate::session::state::Resp;

/// `+text`. Line breaks in `text` become spaces.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text.as_bytes());
}

/// `-text`. `text` starts with the error's code (`ERR …`). Line breaks in it become spaces, for it may
/// quote what a client sent.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'-', text.as_ref());
}

/// `:number`.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `$length` and the bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// No value: `$-1` in RESP2, `_` in RESP3.
pub fn null(out: &mut Vec<u8>, resp: Resp) {
    out.extend_from_slice(match resp {
        Resp::V2 => b"$-1\r\n",
        Resp::V3 => b"_\r\n",
    });
}

/// Header of an array of `count` elements.
pub fn array(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Header of a map of `count` pairs; in RESP2 a flat array of names and values.
pub fn map(out: &mut Vec<u8>, resp: Resp, count: usize) {
    match resp {
        Resp::V2 => header(out, b'*', count * 2),
        Resp::V3 => header(out, b'%', count),
    }
}

/// Header of a set of `count` elements; in RESP2 an array.
pub fn set(out: &mut Vec<u8>, resp: Resp, count: usize) {
    header(out, if resp == Resp::V3 { b'~' } else { b'*' }, count);
}

/// Text for people (`txt`); in RESP2 a bulk string.
pub fn verbatim(out: &mut Vec<u8>, resp: Resp, text: &str) {
    match resp {
        Resp::V2 => bulk(out, text),
        Resp::V3 => {
            header(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A type byte and a count, as every aggregate and bulk string starts.
#[inline]
pub fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use redis_protocol::resp2::types::OwnedFrame as Frame2;
    use redis_protocol::resp3::types::OwnedFrame as Frame3;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn resp2(write: impl FnOnce(&mut Vec<u8>)) -> Frame2 {
        let out = written(write);
        let (frame, used) = redis_protocol::resp2::decode::decode(&out).unwrap().expect("whole");
        assert_eq!(used, out.len());
        frame
    }

    fn resp3(write: impl FnOnce(&mut Vec<u8>)) -> Frame3 {
        let out = written(write);
        let (frame, used) = redis_protocol::resp3::decode::complete::decode(&out).unwrap().expect("whole");
        assert_eq!(used, out.len());
        frame
    }

    #[test]
    fn resp2_reads_back() {
        assert_eq!(resp2(|o| simple(o, "OK")), Frame2::SimpleString(b"OK".to_vec()));
        assert_eq!(resp2(|o| error(o, "ERR a\r\nb")), Frame2::Error("ERR a  b".into()));
        for number in [0, -1, 999_999_999_999_999, i64::MIN, i64::MAX] {
            assert_eq!(resp2(|o| integer(o, number)), Frame2::Integer(number));
        }
        for bytes in [&b""[..], b"a\r\nb\0", &[255; 70_000]] {
            assert_eq!(resp2(|o| bulk(o, bytes)), Frame2::BulkString(bytes.to_vec()));
        }
        assert_eq!(resp2(|o| null(o, Resp::V2)), Frame2::Null);
        assert_eq!(resp2(|o| verbatim(o, Resp::V2, "hi\n")), Frame2::BulkString(b"hi\n".to_vec()));
        for header in [map, set] {
            let out = written(|o| header(o, Resp::V2, 0));
            assert_eq!(out, b"*0\r\n");
        }
        let pairs = resp2(|o| {
            map(o, Resp::V2, 1);
            bulk(o, "k");
            integer(o, 1);
        });
        assert_eq!(pairs, Frame2::Array(vec![Frame2::BulkString(b"k".to_vec()), Frame2::Integer(1)]));
    }

    #[test]
    fn resp3_reads_back() {
        assert_eq!(resp3(|o| null(o, Resp::V3)), Frame3::Null);
        match resp3(|o| verbatim(o, Resp::V3, "a\r\nb")) {
            Frame3::VerbatimString { data, .. } => assert_eq!(data, b"a\r\nb"),
            other => panic!("{other:?}"),
        }
        match resp3(|o| {
            map(o, Resp::V3, 2);
            for key in ["a", "b"] {
                bulk(o, key);
                set(o, Resp::V3, 1);
                simple(o, "x");
            }
        }) {
            Frame3::Map { data, .. } => assert_eq!(data.len(), 2),
            other => panic!("{other:?}"),
        }
    }
}
