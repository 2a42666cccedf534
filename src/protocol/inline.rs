//! Inline commands: a line of words with Redis' quoting rules (`sdssplitargs`), turned into an array.
//! Must read a line exactly as Redis does, for the result is what the node executes.

use super::ProtocolError;
use super::request::Span;

/// Splits `line` and writes the array form to `frame`, the arguments' places to `spans`.
pub fn split_inline(line: &[u8], frame: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let words = split_words(line)?;
    frame.clear();
    spans.clear();
    if words.is_empty() {
        return Ok(());
    }
    frame.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        frame.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        spans.push(Span { start: frame.len() as u32, len: word.len() as u32 });
        frame.extend_from_slice(&word);
        frame.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// C's `isspace`: skipped between words and allowed after a quote. Only four of them end a bare word.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let Some((&first, tail)) = rest.split_first()
            && is_space(first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = read_word(rest, &mut word)?;
        words.push(word);
    }
}

fn read_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'"' => return read_double_quoted(tail, word),
            b'\'' => return read_single_quoted(tail, word),
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(tail),
            _ => word.push(byte),
        }
        rest = tail;
    }
    Ok(rest)
}

/// After the opening `"`: escapes are read; the closing quote must end the word.
fn read_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = tail;
            }
            [b'"', tail @ ..] => return end_of_quoted(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

/// After the opening `'`: only `\'` is an escape.
fn read_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return end_of_quoted(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn end_of_quoted(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split_words(line.as_bytes())
            .unwrap()
            .iter()
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("SET  a\tb"), ["SET", "a", "b"]);
        assert_eq!(words(r#"set "a b" 'c d'"#), ["set", "a b", "c d"]);
        assert_eq!(words(r#"set "\x41\n\"" '\''"#), ["set", "A\n\"", "'"]);
        assert_eq!(words(r#"get """#), ["get", ""]);
        assert_eq!(words("   "), Vec::<String>::new());
        assert_eq!(words("\x0bECHO \x0ca\x0bb\x0c 'c'\x0b\"d\""), ["ECHO", "a\x0bb\x0c", "c", "d"]);
        assert_eq!(words(r#"echo a"b c" "\xag""#), ["echo", "ab c", "xag"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"get "a"#, "get 'a", r#"get "a"b"#, r#"get "\"#] {
            assert_eq!(split_words(line.as_bytes()), Err(ProtocolError::UnbalancedQuotes), "{line}");
        }
    }
}
