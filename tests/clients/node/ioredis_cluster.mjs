// ioredis' Cluster client: it finds one node that owns all slots, and works.
import Redis from 'ioredis';
import { check, eventually, host, port, range, run, same } from './checks.mjs';

const cluster = new Redis.Cluster([{ host, port }], { redisOptions: { maxRetriesPerRequest: 2 } });
cluster.on('error', (error) => console.log(`# ${error}`));

check('finds one primary', async () => {
  same(await cluster.ping(), 'PONG');
  same(cluster.nodes('master').map((node) => node.options.port), [port]);
});

check('data', async () => {
  const keys = range(100).map((n) => `ioc:${n}`);
  same(await Promise.all(keys.map((key, n) => cluster.set(key, n))), Array(100).fill('OK'));
  same(await Promise.all(keys.map((key) => cluster.get(key))), range(100).map(String));
  const pipe = cluster.pipeline();
  range(20).forEach((n) => pipe.incr(`{ioc}:${n}`).del(`{ioc}:${n}`));
  same(await pipe.exec(), range(20).flatMap(() => [[null, 1], [null, 1]]));
  same(await cluster.multi().set('{ioc}a', 1).incr('{ioc}a').exec(), [[null, 'OK'], [null, 2]]);
});

check('pub/sub', async () => {
  const subscriber = cluster.duplicate();
  const got = [];
  subscriber.on('message', (channel, message) => got.push(message));
  await subscriber.subscribe('ioc:news');
  for (const n of range(20)) await cluster.publish('ioc:news', n);
  await eventually(() => got.length >= 20, 'all messages');
  same(got, range(20).map(String));
  subscriber.disconnect();
});

await run(() => cluster.disconnect());
