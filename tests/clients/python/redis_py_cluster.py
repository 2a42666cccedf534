"""redis-py's RedisCluster and its asyncio twin: they find one node that owns all slots, and work."""

import redis
import redis.asyncio as aio

from checks import HOST, PORT, Checks, same

checks = Checks()


def client(protocol):
    return redis.RedisCluster(host=HOST, port=PORT, protocol=protocol, decode_responses=True)


def topology(protocol):
    r = client(protocol)
    nodes = r.get_nodes()
    same([(node.port, node.server_type) for node in nodes], [(PORT, "primary")])
    same({r.get_node_from_key(f"k{n}").port for n in range(100)}, {PORT})
    same((r.keyslot("{user}:1"), r.cluster_keyslot("{user}:1")), (5474, 5474))
    info = r.cluster_info(target_nodes=nodes[0])
    same((info["cluster_state"], info["cluster_slots_assigned"]), ("ok", "16384"))
    same(len(r.cluster_nodes()), 1)


def data(protocol):
    r = client(protocol)
    keys = [f"cl{protocol}:{n}" for n in range(200)]
    for n, key in enumerate(keys):
        r.set(key, n)
    same([r.get(key) for key in keys], [str(n) for n in range(200)])
    same(r.mget_nonatomic(keys), [str(n) for n in range(200)])
    same(set(r.scan_iter(f"cl{protocol}:*")), set(keys))
    assert r.dbsize() >= 200
    same(r.delete(*keys), 200)
    same(r.exists(*keys), 0)
    r.hset(f"{{cl{protocol}}}:hash", mapping={"a": "1"})
    same(r.hgetall(f"{{cl{protocol}}}:hash"), {"a": "1"})


def pipelines(protocol):
    r = client(protocol)
    pipe = r.pipeline()
    for n in range(100):
        pipe.set(f"cl{protocol}:pipe:{n}", n)
        pipe.get(f"cl{protocol}:pipe:{n}")
    same(pipe.execute(), [reply for n in range(100) for reply in (True, str(n))])
    tag = f"{{cl{protocol}:tx}}:"
    r.delete(tag + "a")
    pipe = r.pipeline(transaction=True)
    pipe.incr(tag + "a")
    pipe.incr(tag + "a")
    same(pipe.execute(), [1, 2])


def scripts_and_locks(protocol):
    r = client(protocol)
    script = r.register_script(f"-- cluster {protocol}\nreturn ARGV[1]")
    same([script(keys=[f"cl{protocol}:s:{n}"], args=[n]) for n in range(30)], [str(n) for n in range(30)])
    lock = r.lock(f"cl{protocol}:lock", timeout=10)
    same((lock.acquire(), lock.release()), (True, None))


def pub_sub(protocol):
    r = client(protocol)
    pubsub = r.pubsub()
    pubsub.subscribe(f"cl{protocol}:news")
    same(pubsub.get_message(timeout=5)["type"], "subscribe")
    for n in range(20):
        r.publish(f"cl{protocol}:news", n)
    same([pubsub.get_message(timeout=5)["data"] for _ in range(20)], [str(n) for n in range(20)])
    pubsub.close()


async def asynchronous(protocol):
    async with aio.RedisCluster(host=HOST, port=PORT, protocol=protocol, decode_responses=True) as r:
        keys = [f"acl{protocol}:{n}" for n in range(100)]
        for n, key in enumerate(keys):
            await r.set(key, n)
        same([await r.get(key) for key in keys], [str(n) for n in range(100)])
        pipe = r.pipeline()
        for key in keys:
            pipe.incr(key)
        same(await pipe.execute(), list(range(1, 101)))
        same(await r.delete(*keys), 100)


for version in (2, 3):
    for check in (topology, data, pipelines, scripts_and_locks, pub_sub, asynchronous):
        checks.add(check, f"{check.__name__}, RESP{version}", version)

if __name__ == "__main__":
    checks.run()
