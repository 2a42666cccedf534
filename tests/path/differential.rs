//! A long generated run of single-key commands gives the bytes a standalone Redis gives, in RESP2
//! and in RESP3. The seed is fixed, so that a failure comes back.

use fastrand::Rng;

use crate::support::client::Client;
use crate::support::keys::key_in;
use crate::support::resp::{frame, show};
use crate::support::shared;

/// Words: `@` and a letter is a key of that type, `#` a small number, `$` a value, `&` a score, `%` a
/// value so short that a hash keeps its order.
/// Left out: what depends on chance, on the clock or on the order of a hash table.
const TEMPLATES: &str = "
SET @s $|SET @s $ NX GET|SET @s $ XX|GET @s|GETSET @s $|GETDEL @s|APPEND @s $|STRLEN @s|GETRANGE @s # #
SETRANGE @s # $|SUBSTR @s 0 #|SETNX @s $|INCR @n|INCRBY @n #|DECR @n|DECRBY @n #|GET @n
INCRBYFLOAT @n 0.5|SET @n #|GETBIT @s #|SETBIT @s # 1|BITCOUNT @s|BITPOS @s 1|BITFIELD @s GET u8 #
BITFIELD_RO @s GET i5 #|LPUSH @l $ $|RPUSH @l $|LPOP @l|RPOP @l #|LRANGE @l 0 -1|LLEN @l|LINDEX @l #
LSET @l # $|LREM @l 1 $|LTRIM @l 0 20|LINSERT @l AFTER $ $|LPOS @l $|LPUSHX @l $|LMOVE @l @l LEFT RIGHT
HSET @h f# %|HSET @h f1 % f2 %|HGET @h f#|HMGET @h f1 f2 f3|HDEL @h f#|HLEN @h|HEXISTS @h f#|HGETALL @h
HKEYS @h|HVALS @h|HINCRBY @h c #|HINCRBYFLOAT @h d 1.25|HSETNX @h f# %|HSTRLEN @h f#|HSCAN @h 0|SADD @i # #
SREM @i #|SMEMBERS @i|SISMEMBER @i #|SMISMEMBER @i # #|SCARD @i|SSCAN @i 0|ZADD @z & m# & m#|ZREM @z m#
ZADD @z XX CH & m#|ZADD @z INCR & m#|ZSCORE @z m#|ZMSCORE @z m1 m2|ZINCRBY @z & m#|ZRANK @z m#|ZREVRANK @z m#
ZRANGE @z 0 -1|ZRANGE @z 0 -1 WITHSCORES|ZREVRANGE @z 0 5 WITHSCORES|ZRANGEBYSCORE @z -inf & WITHSCORES
ZCARD @z|ZCOUNT @z 0 &|ZPOPMIN @z|ZPOPMAX @z 2|ZREMRANGEBYRANK @z 20 -1|ZSCAN @z 0|ZLEXCOUNT @z - +
PFADD @p $ $|PFCOUNT @p|XADD @x #-# f $|XLEN @x|XRANGE @x - +|XREVRANGE @x + - COUNT 3|XTRIM @x MAXLEN 10
XREAD COUNT 2 STREAMS @x 0|XGROUP CREATE @x g 0 MKSTREAM|XREADGROUP GROUP g me COUNT 1 STREAMS @x >|XPENDING @x g
XDEL @x #-#|TYPE @s|TYPE @z|EXISTS @s|DEL @s|DEL @l|DEL @x|UNLINK @h|TOUCH @i|EXPIREAT @s 4102444800
EXPIRETIME @s|PERSIST @s|TTL @l|OBJECT ENCODING @i|OBJECT REFCOUNT @h|DUMP @i|COPY @s @s
SORT @i|SORT @i DESC LIMIT 0 3|SORT_RO @l ALPHA|GEOADD @g 13.3 38.1 m# 15.0 37.5 m#|GEOPOS @g m# m#|GEODIST @g m1 m2
GEOSEARCH @g FROMLONLAT 15 37 BYRADIUS 500 km ASC WITHCOORD WITHDIST|GEOHASH @g m#|GET @l|INCR @s|LPUSH @s x
HGET @z f|EVAL return{KEYS[1],ARGV[1],false,1,{err='X'}} 1 @s $|EVAL return{double=3.5} 1 @s
EVAL return(redis.call('get',KEYS[1])) 1 @s|EVAL return(redis.setresp(3)) 1 @s|ZRANDMEMBER @none|SINTERCARD 1 @i
MEMORY USAGE @none|SET @s|GET|PING|PING hello|ECHO $|EXISTS|ZADD @z x y|SET @s $ PX|HSET @h f
";

fn random_value(random: &mut Rng) -> Vec<u8> {
    let length = match random.u8(..) {
        0..=20 => 0,
        21..=230 => random.usize(1..20),
        231..=252 => random.usize(20..2000),
        _ => random.usize(2000..70000),
    };
    let alphabet: &[u8] = b"\r\n\0 abcdefg$*+-:\"'\\\xff";
    (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
}

fn argument(word: &str, slot: u16, random: &mut Rng) -> Vec<u8> {
    if let Some(kind) = word.strip_prefix('@') {
        return key_in(slot, &format!("diff:{kind}")).into_bytes();
    }
    if word == "$" {
        return random_value(random);
    }
    if word == "%" {
        let mut value = random_value(random);
        value.truncate(40);
        return value;
    }
    if word == "&" {
        return format!("{}", f64::from(random.i32(-100..100)) / 8.0).into_bytes();
    }
    let mut out = String::new();
    for c in word.chars() {
        if c == '#' {
            out += &random.u8(0..12).to_string();
        } else {
            out.push(c);
        }
    }
    out.into_bytes()
}

fn run(mut real: Client, mut through: Client, seed: u64, rounds: usize) {
    let templates: Vec<&str> = TEMPLATES.split(['|', '\n']).filter(|t| !t.is_empty()).collect();
    let mut random = Rng::with_seed(seed);
    for round in 0..rounds {
        let mut requests = Vec::new();
        for _ in 0..random.usize(1..200) {
            let template = templates[random.usize(..templates.len())];
            // Some keys per type, over all shards.
            let slot = random.u16(0..8) * 2040 + (seed as u16);
            let args: Vec<Vec<u8>> =
                template.split(' ').map(|word| argument(word, slot, &mut random)).collect();
            requests.push(frame(&args.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        }
        let pipeline = requests.concat();
        through.send(&pipeline);
        real.send(&pipeline);
        for request in &requests {
            let (want, got) = (real.reply(), through.reply());
            assert_eq!(show(&got), show(&want), "round {round}, seed {seed}: {}", show(request));
            assert!(got == want, "beyond the shown part, round {round}, seed {seed}: {}", show(request));
        }
    }
}

#[test]
fn generated_commands_get_the_bytes_of_a_single_redis_in_resp2() {
    need_redis!();
    run(shared::standalone().client(), shared::client(), 2, 150);
}

#[test]
fn generated_commands_get_the_bytes_of_a_single_redis_in_resp3() {
    need_redis!();
    let real = Client::connect_resp3(shared::standalone().addr());
    run(real, shared::proxy().client_resp3(), 3, 150);
}
