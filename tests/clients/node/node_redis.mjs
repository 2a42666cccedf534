// node-redis in both RESP versions: data, pipelines, transactions, scripts, scans, blocking, pub/sub, its pool and its cache.
import { createClient, createClientPool, defineScript, BasicClientSideCache } from 'redis';
import { check, eventually, host, ok, port, range, rejected, run, same, sleep, url } from './checks.mjs';

const options = (RESP) => ({
  url,
  RESP,
  scripts: {
    addTo: defineScript({
      SCRIPT: `-- node ${RESP}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])`,
      NUMBER_OF_KEYS: 1,
      parseCommand: (parser, key, by) => { parser.pushKey(key); parser.push(String(by)); },
      transformReply: (reply) => reply,
    }),
  },
});

const open = [];
async function client(RESP, more = {}) {
  const made = createClient({ ...options(RESP), ...more });
  made.on('error', (error) => console.log(`# ${error}`));
  open.push(made);
  return made.connect();
}

for (const RESP of [2, 3]) {
  const at = `node${RESP}`;
  const version = (name, body) => check(`${name}, RESP${RESP}`, body);

  version('data types', async () => {
    const r = await client(RESP);
    const tag = `{${at}}:`;
    await r.del(['s', 'h', 'l', 'set', 'z', 'x'].map((name) => tag + name));
    same(await r.set(`${tag}s`, 'one', { expiration: { type: 'EX', value: 100 } }), 'OK');
    ok((await r.ttl(`${tag}s`)) > 90);
    same([await r.get(`${tag}s`), await r.getDel(`${tag}s`), await r.get(`${tag}s`)], ['one', 'one', null]);
    same(await r.hSet(`${tag}h`, { a: '1', b: '2' }), 2);
    same({ ...(await r.hGetAll(`${tag}h`)) }, { a: '1', b: '2' });
    await r.rPush(`${tag}l`, ['a', 'b', 'c']);
    same([await r.lRange(`${tag}l`, 0, -1), await r.lPop(`${tag}l`)], [['a', 'b', 'c'], 'a']);
    await r.sAdd(`${tag}set`, ['x', 'y']);
    same([...(await r.sMembers(`${tag}set`))].sort(), ['x', 'y']);
    await r.zAdd(`${tag}z`, [{ score: 1, value: 'one' }, { score: 2.5, value: 'two' }]);
    same(await r.zRangeWithScores(`${tag}z`, 0, -1), [{ value: 'one', score: 1 }, { value: 'two', score: 2.5 }]);
    same(await r.zScore(`${tag}z`, 'two'), 2.5);
    const id = await r.xAdd(`${tag}x`, '*', { n: '1' });
    const [entry] = await r.xRange(`${tag}x`, '-', '+');
    same([entry.id, { ...entry.message }], [id, { n: '1' }]);
    match(await rejected(r.lPush(`${tag}z`, 'x')), /WRONGTYPE/);
  });

  version('several keys and what one turn sends together', async () => {
    const r = await client(RESP);
    const keys = range(500).map((n) => `${at}:many:${n}`);
    same(await r.mSet(keys.flatMap((key, n) => [key, String(n)])), 'OK');
    same(await r.mGet(keys), range(500).map(String));
    const replies = await Promise.all(keys.flatMap((key, n) => [r.incrBy(key, n), r.get(key)]));
    same(replies, range(500).flatMap((n) => [2 * n, String(2 * n)]));
    same(await r.del(keys), 500);
  });

  version('transactions', async () => {
    const r = await client(RESP);
    const tag = `{${at}:tx}:`;
    await r.del([`${tag}a`, `${tag}b`]);
    same(await r.multi().set(`${tag}a`, '1').incr(`${tag}a`).lPush(`${tag}b`, 'x').publish('nobody', 'm').exec(), ['OK', 2, 1, 0]);
    same(await r.multi().incr(`${tag}a`).get(`${tag}a`).execAsPipeline(), [3, '3']);
    const other = await client(RESP);
    await r.watch(`${tag}a`);
    await other.set(`${tag}a`, '10');
    ok((await rejected(r.multi().set(`${tag}a`, 'never').exec())).constructor.name === 'WatchError');
    same(await r.get(`${tag}a`), '10');
  });

  version('scripts and functions', async () => {
    const r = await client(RESP);
    const keys = range(50).map((n) => `${at}:script:${n}`);
    await r.del(keys);
    same(await Promise.all(keys.map((key, n) => r.addTo(key, n))), range(50));
    same(await r.multi().addTo(keys[0], 5).get(keys[0]).exec(), [5, '5']);
    const sha = await r.scriptLoad('return ARGV[1]');
    same(await r.scriptExists([sha]), [1]);
    same(await Promise.all(keys.map((key, n) => r.evalSha(sha, { keys: [key], arguments: [String(n)] }))), range(50).map(String));
    await r.functionLoad(`#!lua name=${at}\nredis.register_function('f${at}', function(keys, args) return keys[1] end)`, { REPLACE: true });
    same(await Promise.all(keys.map((key) => r.fCall(`f${at}`, { keys: [key], arguments: [] }))), keys);
  });

  version('scan iterators', async () => {
    const r = await client(RESP);
    const keys = range(300).map((n) => `${at}:scan:${n}`);
    await Promise.all(keys.map((key) => r.set(key, 'v')));
    const found = new Set();
    for await (const batch of r.scanIterator({ MATCH: `${at}:scan:*`, COUNT: 30 })) batch.forEach((key) => found.add(key));
    same(found, new Set(keys));
    same(new Set(await r.keys(`${at}:scan:*`)), new Set(keys));
    ok((await r.dbSize()) >= 300);
  });

  version('blocking, while others go on', async () => {
    const r = await client(RESP);
    const pool = await createClientPool(options(RESP), { minimum: 1, maximum: 10 }).connect();
    const waiting = range(5).map((n) => pool.execute((one) => one.blPop(`${at}:queue:${n}`, 15)));
    await sleep(200);
    for (const n of range(5)) await r.rPush(`${at}:queue:${n}`, `job ${n}`);
    same((await Promise.all(waiting)).map((found) => found.element), range(5).map((n) => `job ${n}`));
    same(await r.blPop(`${at}:queue:0`, 0.2), null);
    const next = pool.execute((one) => one.xRead({ key: `${at}:stream`, id: '$' }, { BLOCK: 15_000 }));
    const adding = setInterval(() => r.xAdd(`${at}:stream`, '*', { f: 'v' }), 100);
    const found = await next;
    clearInterval(adding);
    const [entry] = found[0].messages;
    same({ ...entry.message }, { f: 'v' });
    await pool.close();
  });

  version('pub/sub', async () => {
    const r = await client(RESP);
    const subscriber = await client(RESP);
    const got = { plain: [], pattern: [], sharded: [] };
    await subscriber.subscribe([`${at}:a`, `${at}:b`], (message, channel) => got.plain.push(`${channel} ${message}`));
    await subscriber.pSubscribe(`${at}:?`, (message) => got.pattern.push(message));
    await subscriber.sSubscribe(`${at}:s`, (message) => got.sharded.push(message));
    for (const n of range(100)) {
      await r.publish(`${at}:${n % 2 ? 'b' : 'a'}`, String(n));
      await r.sPublish(`${at}:s`, String(n));
    }
    await eventually(() => got.plain.length >= 100 && got.pattern.length >= 100 && got.sharded.length >= 100, 'all messages');
    for (const [channel, first] of [['a', 0], ['b', 1]]) {
      const wanted = range(50).map((n) => `${at}:${channel} ${2 * n + first}`);
      same(got.plain.filter((text) => text.startsWith(`${at}:${channel} `)), wanted);
    }
    same(got.pattern.map(Number).sort((x, y) => x - y), range(100));
    same(got.sharded, range(100).map(String));
    await subscriber.unsubscribe();
    await subscriber.pUnsubscribe();
    await subscriber.sUnsubscribe();
    same(String(await subscriber.ping()), 'PONG'); // a Buffer here in RESP2
    same(await r.publish(`${at}:a`, 'nobody'), 0);
  });

  version('handshake', async () => {
    const r = await client(RESP, { name: `job-${at}` });
    same([await r.ping(), await r.echo('hello'), await r.clientGetName()], ['PONG', 'hello', `job-${at}`]);
    ok((await r.info('server')).includes('redis_version:'));
    ok((await r.clientId()) > 0);
    await r.select(0);
    ok((await r.commandCount()) > 200);
  });
}

check('client-side cache', async () => {
  const clientSideCache = new BasicClientSideCache({ maxEntries: 100, ttl: 0 });
  const cached = await client(3, { clientSideCache });
  const r = await client(3);
  const keys = range(30).map((n) => `node:cached:${n}`);
  await Promise.all(keys.map((key) => r.set(key, 'old')));
  const read = async () => { const found = []; for (const key of keys) found.push(await cached.get(key)); return found; };
  same([await read(), await read()], [Array(30).fill('old'), Array(30).fill('old')]);
  ok(clientSideCache.stats().hitCount >= 30, 'reads from the cache');
  await r.set(keys[7], 'new');
  await eventually(async () => (await cached.get(keys[7])) === 'new', 'the invalidation');
  same(await read(), range(30).map((n) => (n === 7 ? 'new' : 'old')));
});

function match(error, pattern) {
  ok(pattern.test(String(error)), `${error} does not match ${pattern}`);
}

await run(() => open.forEach((one) => one.destroy()));
