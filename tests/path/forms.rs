//! A valid form of every command that is routed: a word that begins with `@` is a key; all keys of
//! a line go into one slot. Data only; a command of the table without a line here fails a test.

/// Commands of Redis 7.0.15 that the table may route.
pub const FORMS: &str = "
APPEND @a x
BITCOUNT @a
BITCOUNT @a 0 10 BIT
BITFIELD @a SET u8 0 7
BITFIELD_RO @a GET u8 0
BITOP AND @d @a @b
BITOP NOT @d @a
BITPOS @a 1
COPY @a @b REPLACE
DECR @n
DECRBY @n 3
DEL @a
DUMP @a
EVAL return{KEYS[1],KEYS[2],ARGV[1]} 2 @a @b x
EVAL return{ARGV[1]} 0 x
EVAL_RO return{KEYS[1]} 1 @a
EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 @a
EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 1 @a
EXISTS @a
EXPIRE @a 100
EXPIREAT @a 4102444800 NX
EXPIRETIME @a
FCALL nofunction 1 @a
FCALL_RO nofunction 1 @a
GEOADD @g 13.361389 38.115556 Palermo
GEODIST @g Palermo Catania km
GEOHASH @g Palermo
GEOPOS @g Palermo
GEORADIUS @g 15 37 200 km
GEORADIUS @g 15 37 200 km STORE @d
GEORADIUS @g 15 37 200 km STOREDIST @d
GEORADIUS_RO @g 15 37 200 km
GEORADIUSBYMEMBER @g Palermo 200 km
GEORADIUSBYMEMBER @g Palermo 200 km STORE @d
GEORADIUSBYMEMBER_RO @g Palermo 200 km
GEOSEARCH @g FROMLONLAT 15 37 BYRADIUS 200 km ASC
GEOSEARCHSTORE @d @g FROMLONLAT 15 37 BYRADIUS 200 km
GET @a
GETBIT @a 7
GETDEL @a
GETEX @a EX 100
GETRANGE @a 0 -1
GETSET @a y
HDEL @h f
HEXISTS @h f
HGET @h f
HGETALL @h
HINCRBY @h n 1
HINCRBYFLOAT @h d 1.5
HKEYS @h
HLEN @h
HMGET @h f g
HMSET @h f 1 g 2
HRANDFIELD @h 1 WITHVALUES
HSCAN @h 0 COUNT 10
HSET @h f 1
HSETNX @h f 1
HSTRLEN @h f
HVALS @h
INCR @n
INCRBY @n 3
INCRBYFLOAT @n 0.5
LCS @a @b LEN
LINDEX @l 0
LINSERT @l BEFORE x y
LLEN @l
LMOVE @l @m LEFT RIGHT
LMPOP 2 @l @m LEFT COUNT 2
LPOP @l 1
LPOS @l x
LPUSH @l x y
LPUSHX @l x
LRANGE @l 0 -1
LREM @l 0 x
LSET @l 0 z
LTRIM @l 0 100
MGET @a @b
MSET @a 1 @b 2
MSETNX @a 1 @b 2
OBJECT ENCODING @a
OBJECT FREQ @a
OBJECT IDLETIME @a
OBJECT REFCOUNT @a
MEMORY USAGE @a
MEMORY USAGE @a SAMPLES 5
PERSIST @a
PEXPIRE @a 100000
PEXPIREAT @a 4102444800000
PEXPIRETIME @a
PFADD @p x y
PFCOUNT @p @q
PFDEBUG ENCODING @p
PFMERGE @d @p @q
PSETEX @a 100000 x
PTTL @a
RENAME @a @b
RENAMENX @a @b
RESTORE @d 0 notadump
RPOP @l
RPOPLPUSH @l @m
RPUSH @l x
RPUSHX @l x
SADD @s 1 2 3
SCARD @s
SDIFF @s @t
SDIFFSTORE @d @s @t
SET @a x EX 100
SETBIT @a 7 1
SETEX @a 100 x
SETNX @a x
SETRANGE @a 3 x
SINTER @s @t
SINTERCARD 2 @s @t LIMIT 5
SINTERSTORE @d @s @t
SISMEMBER @s 1
SMEMBERS @s
SMISMEMBER @s 1 9
SMOVE @s @t 1
SORT @l ALPHA
SORT @l ALPHA STORE @d
SORT @l LIMIT 0 5 DESC ALPHA STORE @d
SORT_RO @l ALPHA
SPOP @s
SRANDMEMBER @s
SREM @s 1
SSCAN @s 0
STRLEN @a
SUBSTR @a 0 1
SUNION @s @t
SUNIONSTORE @d @s @t
TOUCH @a @b
TTL @a
TYPE @a
UNLINK @a @b
XADD @x MAXLEN ~ 100 * f v
XACK @x grp 1-1
XAUTOCLAIM @x grp me 0 0
XCLAIM @x grp me 0 1-1
XDEL @x 1-1
XGROUP CREATE @x grp $ MKSTREAM
XGROUP CREATECONSUMER @x grp me
XGROUP DELCONSUMER @x grp me
XGROUP SETID @x grp 0
XGROUP DESTROY @x grp
XINFO STREAM @x
XINFO GROUPS @x
XINFO CONSUMERS @x grp
XLEN @x
XPENDING @x grp
XRANGE @x - +
XREAD COUNT 2 STREAMS @x @y 0 0
XREAD STREAMS @x 0
xread count 2 streams @x 0
XREADGROUP GROUP grp me COUNT 2 STREAMS @x >
XREADGROUP GROUP streams me STREAMS @x @y 0 0
XREVRANGE @x + -
XSETID @x 9999999999999-1
XTRIM @x MAXLEN 100
ZADD @z 1 a 2 b
ZCARD @z
ZCOUNT @z -inf +inf
ZDIFF 2 @z @w WITHSCORES
ZDIFFSTORE @d 2 @z @w
ZINCRBY @z 1 a
ZINTER 2 @z @w WEIGHTS 1 2 AGGREGATE MAX
ZINTERCARD 2 @z @w LIMIT 1
ZINTERSTORE @d 2 @z @w
ZLEXCOUNT @z - +
ZMPOP 2 @z @w MIN COUNT 1
ZMSCORE @z a c
ZPOPMAX @z
ZPOPMIN @z 1
ZRANDMEMBER @z
ZRANGE @z 0 -1 WITHSCORES
ZRANGEBYLEX @z - +
ZRANGEBYSCORE @z -inf +inf LIMIT 0 1
ZRANGESTORE @d @z 0 -1
ZRANK @z a
ZREM @z a
ZREMRANGEBYLEX @z [c [d
ZREMRANGEBYRANK @z 5 6
ZREMRANGEBYSCORE @z 50 60
ZREVRANGE @z 0 -1
ZREVRANGEBYLEX @z + -
ZREVRANGEBYSCORE @z +inf -inf
ZREVRANK @z a
ZSCAN @z 0
ZSCORE @z a
ZUNION 2 @z @w
ZUNIONSTORE @d 2 @z @w WEIGHTS 1 2
LOLWUT
OBJECT HELP
XGROUP HELP
XINFO HELP
";

/// One line with its keys put into `slot`: the whole request, and the keys among it.
pub struct Form {
    pub line: &'static str,
    pub args: Vec<Vec<u8>>,
    pub keys: Vec<Vec<u8>>,
}

/// Every line, its keys all different from those of other lines.
pub fn forms(slot_of_line: impl Fn(usize) -> u16) -> Vec<Form> {
    let lines = FORMS.lines().filter(|l| !l.is_empty());
    lines.enumerate().map(|(n, line)| form(line, n, slot_of_line(n))).collect()
}

fn form(line: &'static str, number: usize, slot: u16) -> Form {
    let mut keys = Vec::new();
    let mut args = Vec::new();
    for word in line.split_whitespace() {
        match word.strip_prefix('@') {
            Some(name) => {
                let key = crate::support::keys::key_in(slot, &format!("form:{number}:{name}")).into_bytes();
                keys.push(key.clone());
                args.push(key);
            }
            None => args.push(word.as_bytes().to_vec()),
        }
    }
    Form { line, args, keys }
}
