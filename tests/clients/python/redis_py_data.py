"""redis-py, one connection pool per RESP version: data types, several keys at once, pipelines, transactions, scans."""

import threading

import redis

from checks import HOST, PORT, Checks, raises, same

checks = Checks()
SPREAD = 400  # keys without a tag: they lie on all shards


def client(protocol, **options):
    return redis.Redis(HOST, PORT, protocol=protocol, decode_responses=True, **options)


def names(group, count=SPREAD):
    return [f"{group}:{n}" for n in range(count)]


def strings(protocol):
    r = client(protocol)
    key = f"py{protocol}:string"
    r.delete(key)
    same(r.set(key, "one", nx=True), True)
    same(r.set(key, "two", nx=True), None)
    same(r.set(key, "three", get=True), "one")
    same((r.append(key, "!"), r.strlen(key), r.getrange(key, 1, 3)), (6, 6, "hre"))
    r.set(key, 10)
    same((r.incr(key, 5), r.decr(key), r.incrbyfloat(key, 0.5)), (15, 14, 14.5))
    same(r.expire(key, 100), True)
    assert 0 < r.ttl(key) <= 100
    same((r.getdel(key), r.get(key), r.exists(key)), ("14.5", None, 0))
    raw = redis.Redis(HOST, PORT, protocol=protocol)
    value = bytes(range(256)) * 1000 + b"\r\n$-1\r\n\0"
    raw.set(key, value)
    same(raw.get(key), value)


def several_keys(protocol):
    r = client(protocol)
    keys = names(f"py{protocol}:several")
    r.delete(*keys)
    same(r.mset({key: n for n, key in enumerate(keys)}), True)
    same(r.mget([*keys, "py:absent"]), [*map(str, range(SPREAD)), None])
    same(r.exists(*keys, keys[0]), SPREAD + 1)
    same(r.touch(*keys[:10]), 10)
    same(r.unlink(*keys[:100]), 100)
    same(r.delete(*keys), SPREAD - 100)
    same(r.mget(keys[:3]), [None, None, None])


def collections(protocol):
    r = client(protocol)
    at = f"{{py{protocol}}}:"
    r.delete(*(at + kind for kind in ("hash", "list", "set", "other", "zset", "stream", "geo", "bits", "hll")))
    r.hset(at + "hash", mapping={"a": "1", "b": "2", "c": "3"})
    same((r.hgetall(at + "hash"), r.hmget(at + "hash", ["c", "x"]), r.hincrby(at + "hash", "a", 9)), ({"a": "1", "b": "2", "c": "3"}, ["3", None], 10))
    same((r.rpush(at + "list", *"abcdef"), r.lrange(at + "list", 1, -2), r.lpop(at + "list", 2)), (6, ["b", "c", "d", "e"], ["a", "b"]))
    same((r.lpos(at + "list", "e"), r.linsert(at + "list", "BEFORE", "d", "x")), (2, 5))
    r.sadd(at + "set", *"abc")
    r.sadd(at + "other", *"bcd")
    same((r.sinter(at + "set", at + "other"), r.sdiff(at + "set", at + "other")), ({"b", "c"}, {"a"}))
    same(r.smismember(at + "set", ["a", "z"]), [1, 0])
    r.zadd(at + "zset", {"one": 1, "two": 2, "half": 2.5})
    same([tuple(pair) for pair in r.zrange(at + "zset", 0, -1, withscores=True)], [("one", 1.0), ("two", 2.0), ("half", 2.5)])
    same((r.zscore(at + "zset", "half"), r.zrank(at + "zset", "two"), r.zincrby(at + "zset", 1, "one")), (2.5, 1, 2.0))
    r.geoadd(at + "geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
    same(r.geosearch(at + "geo", longitude=15, latitude=37, radius=100, unit="km"), ["Catania"])
    same((r.setbit(at + "bits", 7, 1), r.bitcount(at + "bits"), r.pfadd(at + "hll", *"abc"), r.pfcount(at + "hll")), (0, 1, 1, 3))
    same(r.sort(at + "set", alpha=True, desc=True), ["c", "b", "a"])


def streams(protocol):
    r = client(protocol)
    key = f"py{protocol}:stream"
    r.delete(key)
    ids = [r.xadd(key, {"n": n}) for n in range(5)]
    same([entry for entry in r.xrange(key)], [(i, {"n": str(n)}) for n, i in enumerate(ids)])
    same(r.xgroup_create(key, "workers", id="0"), True)
    read = r.xreadgroup("workers", "first", {key: ">"}, count=3)
    entries = [tuple(entry) for entry in (read[key][0] if isinstance(read, dict) else read[0][1])]
    same(entries, [(i, {"n": str(n)}) for n, i in enumerate(ids[:3])])
    same((r.xack(key, "workers", *ids[:2]), r.xpending(key, "workers")["pending"]), (2, 1))
    same([i for i, _ in r.xclaim(key, "workers", "second", 0, [ids[2]])], [ids[2]])
    same((r.xlen(key), r.xtrim(key, maxlen=2, approximate=False), r.xinfo_stream(key)["length"]), (5, 3, 2))


def pipeline(protocol):
    r = client(protocol)
    keys = names(f"py{protocol}:pipe")
    r.delete(*keys)
    pipe = r.pipeline(transaction=False)
    for n, key in enumerate(keys):
        pipe.set(key, n).incr(key).get(key)
    pipe.lpush(keys[0], "wrong type").ping().mget(keys)
    found = pipe.execute(raise_on_error=False)
    same(found[: 3 * SPREAD], [reply for n in range(SPREAD) for reply in (True, n + 1, str(n + 1))])
    assert isinstance(found[-3], redis.ResponseError) and "WRONGTYPE" in str(found[-3]), found[-3]
    same(found[-2:], [True, [str(n + 1) for n in range(SPREAD)]])


def transaction(protocol):
    r = client(protocol)
    at = f"{{py{protocol}:tx}}:"
    r.delete(at + "a", at + "b", at + "list")
    pipe = r.pipeline()
    pipe.set(at + "a", 1).incr(at + "a").rpush(at + "list", "x", "y").lrange(at + "list", 0, -1).publish("py:nobody", "inside")
    same(pipe.execute(), [True, 2, 2, ["x", "y"], 0])
    pipe = r.pipeline().set(at + "b", "word").incr(at + "b").get(at + "b")
    found = pipe.execute(raise_on_error=False)
    same((found[0], found[2]), (True, "word"))
    assert "not an integer" in str(found[1]), found[1]
    broken = r.pipeline().set(at + "b", "never")
    broken.execute_command("INCR", at + "a", "too", "many")
    error = raises(redis.ResponseError, broken.execute)
    assert "wrong number of arguments" in str(error) or "EXECABORT" in str(error), error
    same(r.get(at + "b"), "word")


def optimistic_lock(protocol):
    r, other = client(protocol), client(protocol)
    key = f"py{protocol}:watched"
    r.set(key, 1)
    with r.pipeline() as pipe:
        pipe.watch(key)
        other.incr(key)
        pipe.multi()
        pipe.set(key, "never")
        raises(redis.WatchError, pipe.execute)
    same(r.get(key), "2")

    def add_one(pipe):
        value = int(pipe.get(key))
        pipe.multi()
        pipe.set(key, value + 1)

    threads = [threading.Thread(target=lambda: [client(protocol).transaction(add_one, key) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(r.get(key), "42")


def scans(protocol):
    r = client(protocol)
    keys = names(f"py{protocol}:scan")
    r.mset({key: "v" for key in keys})
    same(set(r.scan_iter(f"py{protocol}:scan:*", count=37)), set(keys))
    same(set(r.scan_iter(f"py{protocol}:scan:1?")), {f"py{protocol}:scan:1{n}" for n in range(10)})
    same(sorted(r.keys(f"py{protocol}:scan:*")), sorted(keys))
    same(set(r.scan_iter(f"py{protocol}:scan:*", _type="LIST")), set())
    assert r.dbsize() >= SPREAD, r.dbsize()
    assert r.randomkey() is not None
    one = f"py{protocol}:members"
    r.delete(one)
    r.zadd(one, {f"m{n}": n for n in range(600)})
    same(sorted(r.zscan_iter(one, count=50), key=lambda pair: pair[1]), [(f"m{n}", float(n)) for n in range(600)])
    r.delete(one)
    r.sadd(one, *range(600))
    same({*r.sscan_iter(one)}, {str(n) for n in range(600)})


def many_threads(protocol):
    r = client(protocol, max_connections=50)
    key = f"py{protocol}:counter"
    r.delete(key)

    def count(worker):
        for n in range(100):
            r.incr(key)
            r.set(f"py{protocol}:thread:{worker}:{n}", n)
            assert r.get(f"py{protocol}:thread:{worker}:{n}") == str(n)

    threads = [threading.Thread(target=count, args=(worker,)) for worker in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(r.get(key), "2000")


for version in (2, 3):
    for check in (strings, several_keys, collections, streams, pipeline, transaction, optimistic_lock, scans, many_threads):
        checks.add(check, f"{check.__name__}, RESP{version}", version)

if __name__ == "__main__":
    checks.run()
