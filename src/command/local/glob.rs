//! Glob patterns as Redis takes them: `*`, `?`, `[a-c]`, `[^a]`, `\x`. In COMMAND LIST FILTERBY PATTERN letter
//! case is ignored, in PSUBSCRIBE it is not.

/// Whether the whole of `text` matches in any letter case. Takes at most pattern × text steps, whatever the
/// pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_as::<true>(pattern, text)
}

/// As `matches`, in this letter case.
pub fn matches_exact(pattern: &[u8], text: &[u8]) -> bool {
    matches_as::<false>(pattern, text)
}

/// What is left of a pattern that does not begin with a star when it has matched one byte; `None` when it does
/// not match it.
pub fn one_exact(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    one::<false>(pattern, byte)
}

fn fold<const FOLD: bool>(byte: u8) -> u8 {
    if FOLD { byte.to_ascii_lowercase() } else { byte }
}

fn matches_as<const FOLD: bool>(pattern: &[u8], text: &[u8]) -> bool {
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
        let step = text.get(at).and_then(|&byte| one::<FOLD>(rest, byte));
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
fn one<const FOLD: bool>(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class::<FOLD>(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            (fold::<FOLD>(*literal) == fold::<FOLD>(byte)).then_some(rest)
        }
    }
}

/// The inside of brackets; an end that is missing is taken to be at the end.
fn class<const FOLD: bool>(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let byte = fold::<FOLD>(byte);
    let mut found = false;
    let after = loop {
        rest = match rest {
            [] => break rest,
            [b']', after @ ..] => break after,
            [b'\\', literal, after @ ..] => {
                found |= fold::<FOLD>(*literal) == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (fold::<FOLD>(*low), fold::<FOLD>(*high));
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= fold::<FOLD>(*literal) == byte;
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
        assert!(!matches(&b"*a".repeat(10_000), &b"a".repeat(40)));
        assert!(matches_exact(b"G[a-f]t*", b"Get it") && !matches_exact(b"g[a-f]t*", b"Get it"));
        assert!(!matches_exact(b"G[A-F]t*", b"Get it"));
    }
}
