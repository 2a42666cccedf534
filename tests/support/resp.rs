//! A small RESP2/RESP3 reader of the tests' own, so that the proxy is not judged by its own code.
//! Finds where a reply ends, and turns one into a tree.

/// A decoded reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`
    NullBulk,
    /// `*-1`
    NullArray,
    /// `_`
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(String),
    Bool(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
    BulkError(Vec<u8>),
    /// Attributes, and the reply they belong to.
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_) | Value::BulkError(_))
    }

    /// Text of an error; panics on anything else.
    #[track_caller]
    pub fn error(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// Bytes of a bulk or simple string; panics on anything else.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(b) | Value::Verbatim(b) => b,
            Value::Simple(s) => s.as_bytes(),
            other => panic!("expected a string, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// Finds the end of one reply in bytes that arrive bit by bit; looks at no byte twice.
#[derive(Debug)]
pub struct Cutter {
    at: usize,
    left: u64,
}

impl Default for Cutter {
    fn default() -> Self {
        Self { at: 0, left: 1 }
    }
}

fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(2).position(|w| w == b"\r\n").map(|p| from + p)
}

fn number(line: &[u8]) -> i64 {
    let text = std::str::from_utf8(line).expect("a length in ASCII");
    text.parse().unwrap_or_else(|_| panic!("not a length: {text:?}"))
}

impl Cutter {
    /// Length of the first reply in `bytes`, once all of it is there. `bytes` must begin with what
    /// the earlier calls saw.
    pub fn cut(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.left > 0 {
            let end = line_end(bytes, self.at)?;
            let line = &bytes[self.at..end];
            let (kind, rest) = line.split_first().expect("an empty line is no reply");
            let mut next = end + 2;
            self.left -= 1;
            match kind {
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
                b'$' | b'=' | b'!' => {
                    let length = number(rest);
                    if length >= 0 {
                        next += length as usize + 2;
                    }
                    if bytes.len() < next {
                        self.left += 1;
                        return None;
                    }
                    assert_eq!(&bytes[next - 2..next], b"\r\n", "no line end after {}", show(line));
                }
                b'*' | b'~' | b'>' => self.left += number(rest).max(0) as u64,
                b'%' => self.left += 2 * number(rest).max(0) as u64,
                b'|' => self.left += 2 * number(rest).max(0) as u64 + 1,
                _ => panic!("not a reply: {}", show(line)),
            }
            self.at = next;
        }
        Some(self.at)
    }
}

/// Length of the first reply in `bytes`, if it is complete.
pub fn reply_len(bytes: &[u8]) -> Option<usize> {
    Cutter::default().cut(bytes)
}

/// Decodes exactly one reply.
#[track_caller]
pub fn parse(bytes: &[u8]) -> Value {
    let mut at = 0;
    let value = parse_at(bytes, &mut at);
    assert_eq!(at, bytes.len(), "bytes after the reply: {}", show(bytes));
    value
}

/// Decodes all replies in `bytes`.
pub fn parse_all(bytes: &[u8]) -> Vec<Value> {
    let mut at = 0;
    let mut all = Vec::new();
    while at < bytes.len() {
        all.push(parse_at(bytes, &mut at));
    }
    all
}

fn parse_at(bytes: &[u8], at: &mut usize) -> Value {
    let end = line_end(bytes, *at).expect("a complete reply");
    let line = &bytes[*at..end];
    *at = end + 2;
    let (kind, rest) = line.split_first().expect("an empty line is no reply");
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind {
        b'+' => Value::Simple(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Int(number(rest)),
        b'_' => Value::Null,
        b',' => Value::Double(text()),
        b'#' => Value::Bool(rest == b"t"),
        b'(' => Value::BigNumber(text()),
        b'$' if rest == b"-1" => Value::NullBulk,
        b'*' if rest == b"-1" => Value::NullArray,
        b'$' | b'=' | b'!' => {
            let start = *at;
            *at = start + number(rest) as usize + 2;
            let content = bytes[start..*at - 2].to_vec();
            match kind {
                b'$' => Value::Bulk(content),
                b'=' => Value::Verbatim(content),
                _ => Value::BulkError(content),
            }
        }
        b'*' => Value::Array(items(bytes, at, number(rest))),
        b'~' => Value::Set(items(bytes, at, number(rest))),
        b'>' => Value::Push(items(bytes, at, number(rest))),
        b'%' => Value::Map(pairs(bytes, at, number(rest))),
        b'|' => {
            let attributes = pairs(bytes, at, number(rest));
            Value::Attribute(attributes, Box::new(parse_at(bytes, at)))
        }
        _ => panic!("not a reply: {}", show(line)),
    }
}

fn items(bytes: &[u8], at: &mut usize, count: i64) -> Vec<Value> {
    (0..count).map(|_| parse_at(bytes, at)).collect()
}

fn pairs(bytes: &[u8], at: &mut usize, count: i64) -> Vec<(Value, Value)> {
    (0..count).map(|_| (parse_at(bytes, at), parse_at(bytes, at))).collect()
}

/// One request in the form every client library sends.
pub fn frame(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + args.iter().map(|a| a.len() + 16).sum::<usize>());
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A bulk string reply.
pub fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("${}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// Bytes for people: escaped, and cut when long.
pub fn show(bytes: &[u8]) -> String {
    let cut = bytes.get(..300).unwrap_or(bytes);
    let more = if bytes.len() > cut.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", cut.escape_ascii())
}
