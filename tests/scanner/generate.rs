//! Random requests and replies with their bytes. Written independently of the encoder under src, so
//! that a mistake there can't hide one in the scanner.

use proptest::collection::vec;
use proptest::prelude::*;

/// One request as a client sends it.
#[derive(Clone, Debug)]
pub enum Request {
    /// An array of bulk strings.
    Array(Vec<Vec<u8>>),
    /// A line of words, each in quotes or bare, with a line end of one or two bytes.
    Inline(Vec<(Vec<u8>, bool)>, bool),
    /// An empty line, `*0` and the like: nobody answers it.
    Nothing(&'static str),
}

impl Request {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Array(args) => array_of_bulks(args),
            Self::Inline(words, crlf) => {
                let words: Vec<_> = words.iter().map(|(word, quoted)| written(word, *quoted)).collect();
                let end: &[u8] = if *crlf { b"\r\n" } else { b"\n" };
                [&words.join(&b' '), end].concat()
            }
            Self::Nothing(text) => text.as_bytes().to_vec(),
        }
    }

    /// The arguments a server takes from it; none for one that means nothing.
    pub fn args(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Array(args) => args.clone(),
            Self::Inline(words, _) => words.iter().map(|(word, _)| word.clone()).collect(),
            Self::Nothing(_) => Vec::new(),
        }
    }
}

pub fn array_of_bulks<T: AsRef<[u8]>>(args: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A word of an inline command. In quotes every byte that means something stands as an escape.
fn written(word: &[u8], quoted: bool) -> Vec<u8> {
    if !quoted {
        return word.to_vec();
    }
    let escape = |byte: &u8| match byte {
        b'a'..=b'z' | b' ' | b'\'' => vec![*byte],
        b'\n' => b"\\n".to_vec(),
        b'"' => b"\\\"".to_vec(),
        _ => format!("\\x{byte:02x}").into_bytes(),
    };
    let inside: Vec<u8> = word.iter().flat_map(escape).collect();
    [b"\"", &inside[..], b"\""].concat()
}

/// Arguments as they are hard for a scanner: empty, full of line ends and NULs, like protocol.
pub fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"\r\n".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"$5\r\nvalue\r\n".to_vec()),
        Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
        vec(any::<u8>(), 0..12),
        vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'*'), Just(b'1')], 1..12),
    ]
}

fn inline_word() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let bare = vec(prop_oneof![b'a'..=b'z', b'0'..=b'9', Just(b'\x0b'), Just(255)], 1..8);
    // A bare word that starts with one of these bytes would not be one.
    let bare = bare.prop_filter("blank", |word| word.first() != Some(&0x0b)).prop_map(|word| (word, false));
    prop_oneof![bare, vec(any::<u8>(), 0..8).prop_map(|word| (word, true))]
}

pub fn request() -> impl Strategy<Value = Request> {
    let nothing = prop_oneof![Just("\r\n"), Just("\n"), Just("*0\r\n"), Just("*-1\r\n"), Just(" \t \r\n")];
    prop_oneof![
        4 => vec(argument(), 1..6).prop_map(Request::Array),
        2 => (vec(inline_word(), 1..5), any::<bool>()).prop_map(|(words, crlf)| Request::Inline(words, crlf)),
        1 => nothing.prop_map(Request::Nothing),
    ]
}

/// One reply, as bytes.
pub type Reply = Vec<u8>;

fn text() -> impl Strategy<Value = String> {
    "[ -~]{0,10}"
}

fn line(kind: char, text: impl std::fmt::Display) -> Reply {
    format!("{kind}{text}\r\n").into_bytes()
}

pub fn blob(kind: char, bytes: &[u8]) -> Reply {
    [format!("{kind}{}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

pub fn aggregate(kind: char, count: usize, elements: &[Reply]) -> Reply {
    [format!("{kind}{count}\r\n").into_bytes(), elements.concat()].concat()
}

fn leaf2() -> impl Strategy<Value = Reply> {
    prop_oneof![
        text().prop_map(|text| line('+', text)),
        text().prop_map(|text| line('-', text)),
        any::<i64>().prop_map(|number| line(':', number)),
        argument().prop_map(|bytes| blob('$', &bytes)),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"*0\r\n".to_vec()),
    ]
}

/// Any RESP2 reply.
pub fn reply2() -> impl Strategy<Value = Reply> {
    leaf2().prop_recursive(4, 24, 5, |inner| {
        vec(inner, 0..5).prop_map(|elements| aggregate('*', elements.len(), &elements))
    })
}

/// What RESP3 has instead of aggregates, and the oracle can hash: it keeps maps and sets as such.
fn scalar3() -> impl Strategy<Value = Reply> {
    let double = prop_oneof![any::<i32>().prop_map(|n| f64::from(n) / 8.0), Just(f64::INFINITY)];
    prop_oneof![
        text().prop_map(|text| line('+', text)),
        text().prop_map(|text| line('-', text)),
        any::<i64>().prop_map(|number| line(':', number)),
        argument().prop_map(|bytes| blob('$', &bytes)),
        double.prop_map(|number| line(',', number)),
        any::<bool>().prop_map(|value| line('#', if value { 't' } else { 'f' })),
        any::<u128>().prop_map(|number| line('(', number)),
        text().prop_map(|text| blob('!', format!("ERR {text}").as_bytes())),
        text().prop_map(|text| blob('=', format!("txt:{text}").as_bytes())),
    ]
}

fn aggregate3(inner: impl Strategy<Value = Reply> + Clone + 'static) -> impl Strategy<Value = Reply> {
    let pairs = || vec((scalar3(), inner.clone()), 0..4);
    let flat = |pairs: Vec<(Reply, Reply)>| pairs.into_iter().flat_map(|(k, v)| [k, v]).collect::<Vec<_>>();
    let map = pairs().prop_map(move |pairs| aggregate('%', pairs.len(), &flat(pairs)));
    let attributed = (pairs(), scalar3())
        .prop_map(move |(pairs, of)| [aggregate('|', pairs.len(), &flat(pairs)), of].concat());
    prop_oneof![
        vec(inner.clone(), 0..5).prop_map(|elements| aggregate('*', elements.len(), &elements)),
        vec(scalar3(), 0..5).prop_map(|elements| aggregate('~', elements.len(), &elements)),
        map,
        attributed,
    ]
}

/// RESP3 replies that the oracle understands: no RESP2 nulls, no aggregate as a key.
pub fn reply3() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![8 => scalar3(), 1 => Just(b"_\r\n".to_vec())].boxed();
    let nested = leaf.prop_recursive(4, 24, 5, |inner| aggregate3(inner).boxed());
    let push = vec(nested.clone(), 1..4).prop_map(|elements| {
        aggregate('>', elements.len() + 1, &[vec![line('+', "invalidate")], elements].concat())
    });
    prop_oneof![8 => nested, 1 => push]
}

/// RESP3 replies beyond what the oracle understands.
pub fn odd_reply3() -> impl Strategy<Value = Reply> {
    let odd = prop_oneof![
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b",nan\r\n".to_vec()),
        Just(b",-inf\r\n".to_vec()),
        Just(b"|1\r\n+k\r\n+v\r\n_\r\n".to_vec()),
        Just(b"%1\r\n*1\r\n:1\r\n*0\r\n".to_vec()),
        Just(b"~2\r\n*0\r\n*0\r\n".to_vec()),
        Just(b"=5\r\nraw:\0\r\n".to_vec()),
        Just(b"!3\r\n\xff\r\n\r\n".to_vec()),
        Just(b"-\xff\xfe\r\n".to_vec()),
    ];
    odd.prop_recursive(3, 12, 4, |inner| aggregate3(inner.boxed()).boxed())
}
