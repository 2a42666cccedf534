// ioredis: pipelines, multi, auto-pipelining, Lua through defineCommand, key prefix, blocking, pub/sub, scan streams, its Cluster client.
import Redis from 'ioredis';
import { check, eventually, host, ok, port, range, rejected, run, same, sleep } from './checks.mjs';

const open = [];
function client(options = {}) {
  const made = new Redis({ host, port, maxRetriesPerRequest: 2, ...options });
  made.on('error', (error) => console.log(`# ${error}`));
  open.push(made);
  return made;
}
const r = client();

check('connects and knows the server', async () => {
  const named = client({ connectionName: 'io-job', db: 0 });
  same([await named.ping(), await named.client('GETNAME')], ['PONG', 'io-job']);
  same(named.status, 'ready');
  ok((await named.info()).includes('redis_version:'));
  ok((await named.client('LIST')).includes('name=io-job'));
});

check('data types', async () => {
  const tag = '{io}:';
  await r.del(`${tag}h`, `${tag}l`, `${tag}z`, `${tag}b`);
  same(await r.hset(`${tag}h`, { a: 1, b: 2 }), 2);
  same(await r.hgetall(`${tag}h`), { a: '1', b: '2' });
  same(await r.rpush(`${tag}l`, 'a', 'b', 'c'), 3);
  same(await r.lrange(`${tag}l`, 0, -1), ['a', 'b', 'c']);
  same(await r.zadd(`${tag}z`, 1, 'one', 2.5, 'two'), 2);
  const scores = (await r.zrange(`${tag}z`, 0, -1, 'WITHSCORES')).flat().map(String);
  same(scores, ['one', '1', 'two', '2.5']);
  const value = Buffer.from(range(256));
  await r.set(`${tag}b`, value);
  same(await r.getBuffer(`${tag}b`), value);
});

check('pipeline over all shards', async () => {
  const pipe = r.pipeline();
  for (const n of range(300)) pipe.set(`io:pipe:${n}`, n).incr(`io:pipe:${n}`);
  pipe.lpush('io:pipe:0', 'x').mget(range(300).map((n) => `io:pipe:${n}`));
  const found = await pipe.exec();
  same(found.slice(0, 600), range(300).flatMap((n) => [[null, 'OK'], [null, n + 1]]));
  ok(/WRONGTYPE/.test(String(found[600][0])));
  same(found[601], [null, range(300).map((n) => String(n + 1))]);
});

check('multi', async () => {
  await r.del('{io:tx}:a', '{io:tx}:b');
  same(await r.multi().set('{io:tx}:a', 1).incr('{io:tx}:a').sadd('{io:tx}:b', 'x').exec(), [[null, 'OK'], [null, 2], [null, 1]]);
  same(await r.multi({ pipeline: false }), 'OK');
  same([await r.incr('{io:tx}:a'), await r.exec()], ['QUEUED', [[null, 3]]]);
  const found = await r.pipeline().get('{io:tx}:a').multi().set('{io:tx}:a', 'x').incr('{io:tx}:a').exec().get('{io:tx}:a').exec();
  same([found[0], found[1], found[2], found[3], found[5]], [[null, '3'], [null, 'OK'], [null, 'QUEUED'], [null, 'QUEUED'], [null, 'x']]);
  same(String(found[4][1][0]), 'OK');
  ok(/not an integer/.test(String(found[4][1][1])), String(found[4][1][1]));
  const other = client();
  await r.watch('{io:tx}:a');
  await other.set('{io:tx}:a', 'changed');
  same(await r.multi().set('{io:tx}:a', 'never').exec(), null);
});

check('auto-pipelining', async () => {
  const auto = client({ enableAutoPipelining: true });
  const keys = range(400).map((n) => `io:auto:${n}`);
  same(await Promise.all(keys.map((key, n) => auto.set(key, n))), Array(400).fill('OK'));
  same(await Promise.all(keys.map((key) => auto.get(key))), range(400).map(String));
});

check('Lua commands', async () => {
  const own = client();
  own.defineCommand('addAndTell', { numberOfKeys: 2, lua: "-- io\nredis.call('INCRBY', KEYS[1], ARGV[1])\nreturn {KEYS[2], redis.call('GET', KEYS[1])}" });
  const tags = range(60).map((n) => `{io:lua:${n}}`);
  await Promise.all(tags.map((tag) => own.del(`${tag}a`)));
  same(await Promise.all(tags.map((tag, n) => own.addAndTell(`${tag}a`, `${tag}b`, n))), tags.map((tag, n) => [`${tag}b`, String(n)]));
  const pipe = own.pipeline();
  tags.forEach((tag) => pipe.addAndTell(`${tag}a`, `${tag}b`, 1));
  same(await pipe.exec(), tags.map((tag, n) => [null, [`${tag}b`, String(n + 1)]]));
  same(await own.multi().addAndTell(`${tags[0]}a`, `${tags[0]}b`, 1).get(`${tags[0]}a`).exec(), [[null, [`${tags[0]}b`, '2']], [null, '2']]);
});

check('key prefix', async () => {
  const prefixed = client({ keyPrefix: 'io:pre:' });
  await prefixed.mset({ a: 1, b: 2, c: 3 });
  same([await prefixed.mget('a', 'b', 'c'), await r.get('io:pre:b')], [['1', '2', '3'], '2']);
  same(await prefixed.del('a', 'b', 'c'), 3);
});

check('blocking', async () => {
  const waiting = range(10).map((n) => client().blpop(`io:queue:${n}`, 15));
  await sleep(200);
  for (const n of range(10)) await r.rpush(`io:queue:${n}`, `job ${n}`);
  same(await Promise.all(waiting), range(10).map((n) => [`io:queue:${n}`, `job ${n}`]));
  same(await client().brpop('io:queue:none', 0.2), null);
  const moved = client().blmove('{io:mv}a', '{io:mv}b', 'LEFT', 'RIGHT', 15);
  await sleep(100);
  await r.rpush('{io:mv}a', 'x');
  same([await moved, await r.lrange('{io:mv}b', 0, -1)], ['x', ['x']]);
});

check('pub/sub', async () => {
  // Two connections: with both kinds on one, this version of ioredis trips over the replies to UNSUBSCRIBE, of a lone Redis too.
  const [subscriber, sharded] = [client(), client()];
  const got = { plain: [], pattern: [], sharded: [] };
  subscriber.on('message', (channel, message) => got.plain.push(`${channel} ${message}`));
  subscriber.on('pmessage', (pattern, channel, message) => got.pattern.push(`${pattern} ${channel} ${message}`));
  sharded.on('smessage', (channel, message) => got.sharded.push(`${channel} ${message}`));
  same(await subscriber.subscribe('io:ch:1', 'io:ch:2', 'io:ch:3'), 3);
  same(await subscriber.psubscribe('io:ch:?'), 4);
  same(await sharded.ssubscribe('io:sh:1'), 1);
  same(await sharded.ssubscribe('io:sh:2'), 2);
  for (const n of range(90)) {
    await r.publish(`io:ch:${(n % 3) + 1}`, n);
    await r.spublish(`io:sh:${(n % 2) + 1}`, n);
  }
  await eventually(() => got.plain.length >= 90 && got.pattern.length >= 90 && got.sharded.length >= 90, 'all messages');
  for (const c of range(3)) {
    const wanted = range(30).map((n) => `io:ch:${c + 1} ${3 * n + c}`);
    same(got.plain.filter((text) => text.startsWith(`io:ch:${c + 1} `)), wanted);
    same(got.pattern.filter((text) => text.includes(`io:ch:${c + 1} `)), wanted.map((text) => `io:ch:? ${text}`));
  }
  same(got.sharded.length, 90);
  await subscriber.unsubscribe('io:ch:1', 'io:ch:2', 'io:ch:3');
  await subscriber.punsubscribe('io:ch:?');
  await sharded.sunsubscribe('io:sh:1', 'io:sh:2');
  same([await subscriber.get('io:none'), await sharded.get('io:none')], [null, null]);
});

check('scan streams', async () => {
  await r.mset(range(300).flatMap((n) => [`io:scan:${n}`, 'v']));
  const found = new Set();
  for await (const keys of r.scanStream({ match: 'io:scan:*', count: 40 })) keys.forEach((key) => found.add(key));
  same(found, new Set(range(300).map((n) => `io:scan:${n}`)));
});

check('errors leave the connection usable', async () => {
  ok(/unknown command/.test(String(await rejected(r.call('NOSUCHCOMMAND')))));
  ok(/wrong number of arguments/.test(String(await rejected(r.call('GET')))));
  same(await r.ping(), 'PONG');
});

check('MONITOR', async () => {
  const watcher = await client().monitor();
  const seen = new Set();
  watcher.on('monitor', (time, words) => seen.add(words[1]));
  const keys = range(12).map((n) => `io:monitor:${n}`);
  await Promise.all(keys.map((key) => r.set(key, 'v')));
  await eventually(() => keys.every((key) => seen.has(key)), 'every command');
  watcher.disconnect();
});

await run(() => open.forEach((one) => one.disconnect()));
