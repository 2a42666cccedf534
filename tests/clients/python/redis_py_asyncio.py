"""redis-py's asyncio client in both RESP versions: many requests at once, pipelines, locks, scripts, blocking, pub/sub."""

import asyncio

import redis.asyncio as redis
from redis.exceptions import LockError, WatchError

from checks import HOST, PORT, Checks, same

checks = Checks()


def client(protocol, **options):
    return redis.Redis(host=HOST, port=PORT, protocol=protocol, decode_responses=True, **options)


async def at_once(protocol):
    async with client(protocol, max_connections=100) as r:
        keys = [f"aio{protocol}:{n}" for n in range(500)]
        gate = asyncio.Semaphore(50)

        async def one(n, key):
            async with gate:
                await r.set(key, n)
                return await r.get(key)

        same(await asyncio.gather(*(one(n, key) for n, key in enumerate(keys))), [str(n) for n in range(500)])
        same(await r.mget(keys), [str(n) for n in range(500)])
        same({key async for key in r.scan_iter(f"aio{protocol}:*", count=64)}, set(keys))
        same(await r.delete(*keys), 500)


async def pipelines(protocol):
    async with client(protocol) as r:
        tag = f"{{aio{protocol}}}:"
        await r.delete(tag + "a", tag + "b")
        async with r.pipeline(transaction=False) as pipe:
            for n in range(200):
                pipe.set(f"aio{protocol}:pipe:{n}", n).get(f"aio{protocol}:pipe:{n}")
            same(await pipe.execute(), [reply for n in range(200) for reply in (True, str(n))])
        async with r.pipeline(transaction=True) as pipe:
            same(await pipe.incr(tag + "a").rpush(tag + "b", "x").lrange(tag + "b", 0, -1).execute(), [1, 1, ["x"]])
        async with r.pipeline() as pipe, client(protocol) as other:
            await pipe.watch(tag + "a")
            await other.set(tag + "a", "changed")
            pipe.multi()
            pipe.set(tag + "a", "never")
            try:
                same(await pipe.execute(), "a WatchError")
            except WatchError:
                pass
        same(await r.get(tag + "a"), "changed")


async def locks(protocol):
    async with client(protocol) as r:
        inside, most = 0, 0

        async def work():
            nonlocal inside, most
            async with r.lock(f"aio{protocol}:lock", timeout=10, sleep=0.01):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

        await asyncio.gather(*(work() for _ in range(10)))
        same(most, 1)
        lock = r.lock(f"aio{protocol}:lock", timeout=10)
        await lock.acquire()
        await r.delete(f"aio{protocol}:lock")
        try:
            await lock.release()
            same("released", "a LockError")
        except LockError:
            pass


async def scripts(protocol):
    async with client(protocol) as r:
        script = r.register_script(f"-- aio {protocol}\nreturn {{KEYS[1], ARGV[1]}}")
        keys = [f"aio{protocol}:script:{n}" for n in range(50)]
        found = await asyncio.gather(*(script(keys=[key], args=[n]) for n, key in enumerate(keys)))
        same(found, [[key, str(n)] for n, key in enumerate(keys)])


async def blocking(protocol):
    async with client(protocol) as r:
        keys = [f"aio{protocol}:queue:{n}" for n in range(30)]
        waiting = [asyncio.create_task(r.blpop(key, timeout=15)) for key in keys]
        await asyncio.sleep(0.2)
        for n, key in enumerate(keys):
            await r.rpush(key, n)
        same([tuple(found) for found in await asyncio.gather(*waiting)], [(key, str(n)) for n, key in enumerate(keys)])
        same(await r.blpop(keys[0], timeout=0.2), None)


async def a_cancelled_wait_takes_nothing(protocol):
    async with client(protocol) as r:
        key = f"aio{protocol}:left"
        await r.delete(key)
        waiting = asyncio.create_task(r.blpop(key, timeout=30))
        await asyncio.sleep(0.3)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0.3)
        await r.rpush(key, "still here")
        same(await r.lrange(key, 0, -1), ["still here"])


async def pub_sub(protocol):
    async with client(protocol) as r, r.pubsub(ignore_subscribe_messages=True) as pubsub:
        names = [f"aio{protocol}:news:{n}" for n in range(5)]
        await pubsub.subscribe(*names)
        await pubsub.psubscribe(f"aio{protocol}:*:4")
        # Whoever publishes before the confirmation publishes to nobody: one message per name shows that it is there.
        found = []

        async def read():
            async for message in pubsub.listen():
                found.append((message["type"], message["channel"], message["data"]))
                if len(found) == 120:
                    return

        reader = asyncio.create_task(read())
        while not (await r.pubsub_numsub(names[4]))[0][1]:
            await asyncio.sleep(0.02)
        while await r.pubsub_numpat() == 0:
            await asyncio.sleep(0.02)
        for n in range(100):
            await r.publish(names[n % 5], n)
        await reader
        for index, name in enumerate(names):
            same([data for kind, channel, data in found if (kind, channel) == ("message", name)], [str(n) for n in range(index, 100, 5)])
        same([data for kind, _, data in found if kind == "pmessage"], [str(n) for n in range(4, 100, 5)])


for version in (2, 3):
    for check in (at_once, pipelines, locks, scripts, blocking, a_cancelled_wait_takes_nothing, pub_sub):
        checks.add(check, f"{check.__name__}, RESP{version}", version)

if __name__ == "__main__":
    checks.run()
