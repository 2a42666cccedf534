//! Command flags as a bit set, for checks on the path of a request.

/// Flags of one command. Flags a newer server invents are not in here; their words stay in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

macro_rules! flags {
    ($($constant:ident, $bit:literal, $word:literal, $doc:literal;)*) => {
        impl Flags {
            $(#[doc = $doc] pub const $constant: Flags = Flags(1 << $bit);)*

            /// The flag of this word; nothing for a word that is not known.
            fn of(word: &str) -> Flags {
                match word { $($word => Flags::$constant,)* _ => Flags(0) }
            }
        }
    };
}

flags! {
    WRITE, 0, "write", "May change data.";
    READONLY, 1, "readonly", "Only reads: may be repeated.";
    DENYOOM, 2, "denyoom", "May need more memory.";
    ADMIN, 3, "admin", "Administration of one server.";
    PUBSUB, 4, "pubsub", "Publishes or subscribes.";
    NOSCRIPT, 5, "noscript", "Not allowed in scripts.";
    BLOCKING, 6, "blocking", "May wait.";
    LOADING, 7, "loading", "Allowed while the server loads its data.";
    STALE, 8, "stale", "Allowed on a replica that lost its primary.";
    SKIP_MONITOR, 9, "skip_monitor", "Not shown to MONITOR.";
    SKIP_SLOWLOG, 10, "skip_slowlog", "Not in the slow log.";
    ASKING, 11, "asking", "Acts as if ASKING had been sent.";
    FAST, 12, "fast", "Constant or logarithmic time.";
    NO_AUTH, 13, "no_auth", "Allowed before AUTH.";
    MOVABLEKEYS, 14, "movablekeys", "Keys cannot be told from first key, last key and step.";
    NO_MANDATORY_KEYS, 15, "no_mandatory_keys", "May come without keys.";
    ALLOW_BUSY, 16, "allow_busy", "Allowed while a script runs too long.";
    NO_ASYNC_LOADING, 17, "no_async_loading", "Not allowed during an asynchronous load.";
    NO_MULTI, 18, "no_multi", "Not allowed in a transaction.";
    DANGEROUS, 19, "@dangerous", "In the ACL category of that name.";
    SCRIPTING, 20, "@scripting", "In the ACL category of that name.";
}

impl Flags {
    /// Flags and ACL categories, as the server words them.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Flags {
        Flags(words.into_iter().fold(0, |bits, word| bits | Flags::of(word).0))
    }

    /// The same without the flags of `other`.
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// True if it has every flag of `other`.
    #[inline]
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_words() {
        let flags = Flags::parse(["write", "@dangerous", "of_the_future"]);
        assert!(flags.has(Flags::WRITE) && flags.has(Flags::DANGEROUS) && !flags.has(Flags::READONLY));
        assert_eq!(Flags::parse(["of_the_future"]), Flags::default());
    }
}
