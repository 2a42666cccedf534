//! Glob patterns as KEYS, SCAN and COMMAND LIST take them: `*`, `?`, `[a-c]`, `[^a]`, `\x`.

/// Whether the whole of `text` matches, whatever its letter case. Takes at most pattern × text steps.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// The same, letter case told apart.
pub fn matches_exactly(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte)
}

/// What letter case is made of a byte before it is compared.
type Fold = fn(u8) -> u8;

fn matches_folded(pattern: &[u8], text: &[u8], fold: Fold) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        match rest {
            [b'*', after @ ..] => {
                star = Some((after, at));
                rest = after;
                continue;
            }
            [] if at == text.len() => return true,
            _ => {}
        }
        let step = text.get(at).and_then(|&byte| one(rest, byte, fold));
        match (step, star) {
            (Some(after), _) => {
                rest = after;
                at += 1;
            }
            // Let the last star take one byte more.
            (None, Some((after, taken))) if taken < text.len() => {
                star = Some((after, taken + 1));
                rest = after;
                at = taken + 1;
            }
            (None, _) => return false,
        }
    }
}

/// Matches one byte; what is left of the pattern then.
fn one(pattern: &[u8], byte: u8, fold: Fold) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte, fold),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (fold(*literal) == fold(byte)).then_some(rest),
    }
}

/// The inside of brackets; an end that is missing is taken to be at the end.
fn class(pattern: &[u8], byte: u8, fold: Fold) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let byte = fold(byte);
    let mut found = false;
    let after = loop {
        rest = match rest {
            [] => break rest,
            [b']', after @ ..] => break after,
            [b'\\', literal, after @ ..] => {
                found |= fold(*literal) == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (fold(*low), fold(*high));
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= fold(*literal) == byte;
                after
            }
        };
    };
    (found != negated).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis() {
        for (pattern, text, expected) in [
            ("get", "get", true),
            ("GET", "get", true),
            ("get", "gets", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*ob*ect*", "object|freq", true),
            ("*x", "xx", true),
            ("x*y*z", "xyyz", true),
            ("x*y*z", "xyy", false),
            ("g?t", "get", true),
            ("g?t", "gt", false),
            ("[a-g]et", "get", true),
            ("[z-a]et", "get", true),
            ("[^g]et", "get", false),
            ("[^a", "b", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches_exactly(b"K[a-c]y*", b"Kby1") && !matches_exactly(b"k[a-c]y*", b"Kby1"));
        assert!(!matches_exactly(b"K[A-C]y", b"Kby"));
        assert!(!matches(&b"*a".repeat(10_000), &b"a".repeat(40)));
    }
}
