"""redis-py, what a connection can be besides request and reply: handshake, locks, scripts, blocking, pub/sub, tracking, MONITOR."""

import threading
import time

import redis

from checks import HOST, PORT, URL, Checks, eventually, raises, same

checks = Checks()


def client(protocol, **options):
    return redis.Redis(HOST, PORT, protocol=protocol, decode_responses=True, **options)


def later(call, *args):
    """The call in a thread, started once somebody waits; the delay only makes the interesting order likely."""
    thread = threading.Timer(0.2, call, args)
    thread.start()
    return thread


def handshake(protocol):
    r = client(protocol, client_name=f"py-{protocol}", health_check_interval=1, single_connection_client=True)
    same((r.ping(), r.echo("hello"), r.client_getname()), (True, "hello", f"py-{protocol}"))
    info = r.info()
    same((info["redis_mode"], info["loading"], info["cluster_enabled"]), ("standalone", 0, 0))
    assert info["redis_version"][0].isdigit(), info["redis_version"]
    same({one["id"]: one["name"] for one in r.client_list()}[str(r.client_id())], f"py-{protocol}")
    same(r.client_info()["resp"], str(protocol))
    assert r.command_count() > 200
    same(r.command_getkeys("MSET", "a", "1", "b", "2"), ["a", "b"])
    assert "maxmemory" in r.config_get("maxmemory*")
    same(client(protocol).acl_whoami(), "default")
    same(redis.from_url(URL, protocol=protocol).select(0), True)
    assert abs(r.time()[0] - time.time()) < 60


def locks(protocol):
    r = client(protocol)
    name = f"py{protocol}:lock"
    r.delete(name)
    lock = r.lock(name, timeout=10)
    same((lock.acquire(), lock.owned(), lock.locked()), (True, True, True))
    same(client(protocol).lock(name).acquire(blocking=False), False)
    raises(redis.exceptions.LockError, client(protocol).lock(name, blocking_timeout=0.1).__enter__)
    same(lock.extend(100), True)
    assert 100 < r.ttl(name) <= 110
    same(lock.reacquire(), True)
    assert r.ttl(name) <= 10
    r.set(name, "stolen")
    raises(redis.exceptions.LockNotOwnedError, lock.release)
    r.delete(name)
    order = []

    def work(who):
        with client(protocol).lock(name, timeout=10, sleep=0.01):
            order.append((who, "in"))
            time.sleep(0.02)
            order.append((who, "out"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same([order[n][0] for n in range(0, 10, 2)], [order[n][0] for n in range(1, 10, 2)])
    same(len(order), 10)


def scripts(protocol):
    r = client(protocol)
    keys = [f"py{protocol}:script:{n}" for n in range(60)]
    r.delete(*keys)
    # A text of this version's own, so that nobody loaded it before.
    script = r.register_script(f"-- {protocol}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1]) + {protocol}")
    same([script(keys=[key], args=[n]) for n, key in enumerate(keys)], [n + protocol for n in range(60)])
    pipe = r.pipeline(transaction=False)
    for key in keys:
        script(keys=[key], args=[1], client=pipe)
    same(pipe.execute(), [n + 1 + protocol for n in range(60)])
    pipe = r.pipeline()
    script(keys=[keys[0]], args=[1], client=pipe)
    pipe.get(keys[0])
    same(pipe.execute(), [2 + protocol, "2"])
    sha = r.script_load(f"return {{KEYS[1], ARGV[1], {protocol}}}")
    same(r.script_exists(sha, "0" * 40), [True, False])
    same([r.evalsha(sha, 1, key, "x") for key in keys], [[key, "x", protocol] for key in keys])
    error = raises(redis.ResponseError, r.eval, "return redis.error_reply('MINE it broke')", 0)
    assert "it broke" in str(error), error
    same(r.eval_ro("return redis.call('GET', KEYS[1])", 1, keys[0]), "2")
    library = f"#!lua name=py{protocol}\nredis.register_function('twice{protocol}', function(keys, args) return args[1] * 2 end)"
    same(r.function_load(library, replace=True), f"py{protocol}")
    same([r.fcall(f"twice{protocol}", 1, key, n) for n, key in enumerate(keys)], [2 * n for n in range(60)])
    r.function_delete(f"py{protocol}")
    raises(redis.ResponseError, r.fcall, f"twice{protocol}", 1, keys[0], 1)


def blocking(protocol):
    r, other = client(protocol), client(protocol)
    at = f"{{py{protocol}:block}}:"
    r.delete(at + "a", at + "b", at + "z", at + "s")
    later(other.rpush, at + "b", "first", "second")
    same(tuple(r.blpop([at + "a", at + "b"], timeout=10)), (at + "b", "first"))
    same(r.blmove(at + "b", at + "a", 10, "LEFT", "RIGHT"), "second")
    same(tuple(r.brpop(at + "a", timeout=10)), (at + "a", "second"))
    start = time.monotonic()
    same(r.blpop(at + "a", timeout=0.3), None)
    assert time.monotonic() - start >= 0.3
    later(other.zadd, at + "z", {"m": 1.5})
    found = r.bzpopmin(at + "z", timeout=10)
    same((found[0], found[1], float(found[2])), (at + "z", "m", 1.5))
    later(other.xadd, at + "s", {"f": "v"})
    read = r.xread({at + "s": "$"}, block=10000)
    entry = read[at + "s"][0][0] if isinstance(read, dict) else read[0][1][0]
    same(entry[1], {"f": "v"})
    same(r.get(at + "none"), None)


def a_blocked_client_can_be_unblocked(protocol):
    r, other = client(protocol, single_connection_client=True), client(protocol)
    me = r.client_id()
    timer = threading.Timer(0.2, lambda: eventually(lambda: other.client_unblock(me), "unblocked"))
    timer.start()
    same(r.blpop(f"py{protocol}:never", timeout=15), None)


def messages(pubsub, count):
    found = []

    def one():
        message = pubsub.get_message(timeout=0.1)
        if message:
            found.append(message)
        return len(found) >= count

    eventually(one, f"{count} messages, got {len(found)}")
    return found


def pub_sub(protocol):
    r = client(protocol)
    pubsub = r.pubsub()
    channels = [f"py{protocol}:channel:{n}" for n in range(10)]
    pubsub.subscribe(*channels)
    same([m["data"] for m in messages(pubsub, 10)], list(range(1, 11)))
    pubsub.psubscribe(f"py{protocol}:chan*:3")
    same(messages(pubsub, 1)[0]["type"], "psubscribe")
    for n in range(300):
        r.publish(channels[n % 10], n)
    found = messages(pubsub, 330)
    plain = [m for m in found if m["type"] == "message"]
    for index, channel in enumerate(channels):
        same([m["data"] for m in plain if m["channel"] == channel], [str(n) for n in range(index, 300, 10)])
    same([m["data"] for m in found if m["type"] == "pmessage"], [str(n) for n in range(3, 300, 10)])
    same(len(found), 330)
    if protocol == 2:  # in RESP3 the reply is no message
        same(pubsub.ping(), None)
        same([m["type"] for m in messages(pubsub, 1)], ["pong"])
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    same({m["type"] for m in messages(pubsub, 11)}, {"unsubscribe", "punsubscribe"})
    same(r.publish(channels[0], "nobody"), 0)
    pubsub.close()


def sharded_pub_sub(protocol):
    r = client(protocol)
    pubsub = r.pubsub()
    channels = [f"py{protocol}:shard:{n}" for n in range(6)]
    for channel in channels:
        pubsub.ssubscribe(channel)
    same({m["type"] for m in messages(pubsub, 6)}, {"ssubscribe"})
    for n in range(120):
        r.spublish(channels[n % 6], n)
    found = messages(pubsub, 120)
    for index, channel in enumerate(channels):
        same([m["data"] for m in found if m["channel"] == channel], [str(n) for n in range(index, 120, 6)])
    pubsub.close()


def subscriber_thread(protocol):
    r = client(protocol)
    found = []
    pubsub = r.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(**{f"py{protocol}:thread": lambda message: found.append(message["data"])})
    thread = pubsub.run_in_thread(sleep_time=0.01)
    eventually(lambda: r.publish(f"py{protocol}:thread", "first"), "a subscriber")
    r.publish(f"py{protocol}:thread", "second")
    eventually(lambda: found[-2:] == ["first", "second"], "both messages")
    thread.stop()
    thread.join()


def tracking():
    """By hand: redis-py's own cache asks for a newer server than this needs."""
    r, other = client(3, single_connection_client=True), client(2)
    found = []
    r.connection._parser.set_invalidation_push_handler(lambda push: found.extend(push[1] or ["flush"]))
    same(r.execute_command("CLIENT", "TRACKING", "ON"), "OK")
    keys = [f"py:tracked:{n}" for n in range(30)]
    other.mset({key: "old" for key in keys})
    same([r.get(key) for key in keys], ["old"] * 30)
    for n in (3, 11, 27):
        other.set(keys[n], "new")
    wanted = {keys[n].encode() for n in (3, 11, 27)}
    names = lambda: {name if isinstance(name, bytes) else name.encode() for name in found}
    eventually(lambda: r.ping() and names() >= wanted, "the invalidations")
    same((names(), r.get(keys[3])), (wanted, "new"))


def monitor():
    r = client(2)
    with r.monitor() as watcher:
        keys = {f"py:monitor:{n}" for n in range(12)}
        for key in keys:
            r.set(key, "v")
        found = set()
        while not keys <= found:
            words = watcher.next_command()["command"].split()
            found.update(words[1:2])


for version in (2, 3):
    for check in (handshake, locks, scripts, blocking, a_blocked_client_can_be_unblocked, pub_sub, sharded_pub_sub, subscriber_thread):
        checks.add(check, f"{check.__name__}, RESP{version}", version)
checks(tracking)
checks(monitor)

if __name__ == "__main__":
    checks.run()
