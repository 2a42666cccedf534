//! Patterns of PSUBSCRIBE: which channels they match, and whether they can match a keyspace event. Pure.

use crate::command::local::glob;

/// How the channels of keyspace events begin.
const EVENTS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];

/// True for the channel of a keyspace event.
#[inline]
pub fn is_event_channel(channel: &[u8]) -> bool {
    EVENTS.iter().any(|prefix| channel.starts_with(prefix))
}

/// True for a pattern that some channel of keyspace events matches.
pub fn can_match_events(pattern: &[u8]) -> bool {
    EVENTS.iter().any(|prefix| can_match_prefix(pattern, prefix))
}

/// The key an event is about: in the channel (`__keyspace@0__:key`), else in the message. `None` for the
/// channel of something else.
pub fn event_key<'a>(channel: &'a [u8], payload: &'a [u8]) -> Option<&'a [u8]> {
    let [keyspace, keyevent] = EVENTS;
    if channel.starts_with(keyevent) {
        return Some(payload);
    }
    let rest = channel.strip_prefix(keyspace)?;
    let at = memchr::memmem::find(rest, b"__:")?;
    rest.get(at + 3..)
}

/// Whether some text that begins with `prefix` matches. Keeps the set of places in the pattern that can be
/// reached, so it takes at most pattern × prefix steps.
fn can_match_prefix(pattern: &[u8], prefix: &[u8]) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    let mut places = vec![0];
    pass_stars(pattern, &mut places, &mut reached);
    for &byte in prefix {
        let before = std::mem::take(&mut places);
        reached.fill(false);
        for at in before {
            let rest = pattern.get(at..).unwrap_or(&[]);
            let next = match rest {
                [b'*', ..] => Some(at),
                _ => glob::one_exact(rest, byte).map(|after| pattern.len() - after.len()),
            };
            if let Some(next) = next
                && let Some(seen) = reached.get_mut(next)
                && !std::mem::replace(seen, true)
            {
                places.push(next);
            }
        }
        pass_stars(pattern, &mut places, &mut reached);
    }
    !places.is_empty()
}

/// A star may also take nothing.
fn pass_stars(pattern: &[u8], places: &mut Vec<usize>, reached: &mut [bool]) {
    let mut index = 0;
    while let Some(&at) = places.get(index) {
        if pattern.get(at) == Some(&b'*')
            && let Some(seen) = reached.get_mut(at + 1)
            && !std::mem::replace(seen, true)
        {
            places.push(at + 1);
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_reach_keyspace_events() {
        for pattern in [
            "*",
            "**",
            "__key*",
            "__keyspace@0__:*",
            "__keyevent@*:expired",
            "_*d",
            "?_key[s]pace@0__:foo",
            "[^a]*",
            "\\__key*",
            "__keyspace@*",
            "__keyspace@",
            "*x",
        ] {
            assert!(can_match_events(pattern.as_bytes()), "{pattern}");
        }
        for pattern in
            ["", "_", "news.*", "__keyspac", "__keyspaces@*", "__KEY*", "[^_]*", "?", "__keyevent", "a*"]
        {
            assert!(!can_match_events(pattern.as_bytes()), "{pattern}");
        }
        assert!(!can_match_events(&b"*a".repeat(3000).into_iter().chain(*b"[").rev().collect::<Vec<_>>()));
    }

    #[test]
    fn keys_of_events() {
        assert_eq!(event_key(b"__keyspace@0__:a:b", b"set"), Some(&b"a:b"[..]));
        assert_eq!(event_key(b"__keyspace@12__:__:x", b"set"), Some(&b"__:x"[..]));
        assert_eq!(event_key(b"__keyevent@0__:set", b"k"), Some(&b"k"[..]));
        assert_eq!(event_key(b"__keyspace@0", b"k"), None);
        assert_eq!(event_key(b"news", b"k"), None);
        assert!(is_event_channel(b"__keyevent@0__:set") && !is_event_channel(b"__key"));
    }
}
