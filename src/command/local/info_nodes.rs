//! What INFO tells of the nodes' data: read from each primary's own INFO and added up.

/// Numbers of all primaries together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodesInfo {
    /// `maxmemory_policy`, of the first.
    pub policy: String,
    /// Look-ups that found their key.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Keys that expired.
    pub expired: u64,
    /// Keys evicted for want of memory.
    pub evicted: u64,
    /// Keys there are.
    pub keys: u64,
    /// Those of them that will expire.
    pub expires: u64,
    /// Milliseconds they have left on average, times their number.
    ttl: u128,
}

impl NodesInfo {
    /// Of the replies of all primaries to INFO, in whichever protocol version; `None` when one is not
    /// an INFO.
    pub fn read<'a>(replies: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut all = Self::default();
        for reply in replies {
            let text = std::str::from_utf8(reply)
                .ok()
                .filter(|_| reply.starts_with(b"$") || reply.starts_with(b"="))?;
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = |name: &str| field(name)?.parse::<u64>().ok();
            if all.policy.is_empty() {
                all.policy = field("maxmemory_policy")?.to_owned();
            }
            all.hits += number("keyspace_hits")?;
            all.misses += number("keyspace_misses")?;
            all.expired += number("expired_keys")?;
            all.evicted += number("evicted_keys")?;
            if let Some(line) = field("db0") {
                all.add_keys(line)?;
            }
        }
        Some(all)
    }

    /// `keys=3,expires=1,avg_ttl=5`, and what later versions add.
    fn add_keys(&mut self, line: &str) -> Option<()> {
        let number = |name: &str| {
            let mut fields = line.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(known, _)| *known == name)?.1.parse::<u64>().ok()
        };
        let expires = number("expires")?;
        self.keys += number("keys")?;
        self.expires += expires;
        self.ttl += u128::from(expires) * u128::from(number("avg_ttl")?);
        Some(())
    }

    /// Milliseconds the keys that will expire have left on average.
    pub fn avg_ttl(&self) -> u64 {
        u64::try_from(self.ttl / u128::from(self.expires.max(1))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn info(hits: u64, keyspace: &str) -> String {
        let text = format!(
            "# Memory\r\nmaxmemory_policy:allkeys-lru\r\n# Stats\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:2\r\n\
             expired_keys:3\r\nevicted_keys:4\r\n# Keyspace\r\n{keyspace}"
        );
        format!("${}\r\n{text}\r\n", text.len())
    }

    #[test]
    fn adds_up_what_the_nodes_say() {
        let replies = [
            info(1, "db0:keys=10,expires=1,avg_ttl=100\r\n"),
            info(5, ""),
            info(0, "db0:keys=5,expires=3,avg_ttl=500,subexpiry=0\r\n"),
        ];
        let all = NodesInfo::read(replies.iter().map(String::as_bytes)).unwrap();
        assert_eq!(
            (all.policy.as_str(), all.hits, all.misses, all.expired, all.evicted),
            ("allkeys-lru", 6, 6, 9, 12)
        );
        assert_eq!((all.keys, all.expires, all.avg_ttl()), (15, 4, 400));
        for broken in ["-NOPERM x\r\n", "$5\r\nhello\r\n", "+OK\r\n"] {
            assert_eq!(NodesInfo::read([replies[0].as_bytes(), broken.as_bytes()]), None);
        }
    }
}
