// BullMQ: a queue with a hash-tagged prefix, workers, results, delays, priorities, retries, flows, events, repetition.
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import Redis from 'ioredis';
import { check, eventually, host, ok, port, range, rejected, run, same } from './checks.mjs';

const prefix = '{bull}';
const connection = { host, port, maxRetriesPerRequest: null };
const WAIT = 15_000;
const open = [];
const made = (thing) => {
  thing.on('error', (error) => console.log(`# ${error}`));
  open.unshift(thing);
  return thing;
};

const queue = made(new Queue('work', { prefix, connection }));
const events = made(new QueueEvents('work', { prefix, connection }));
const done = [];
const worker = made(new Worker('work', process, { prefix, connection, concurrency: 5 }));

async function process(job) {
  if (job.name === 'fails') throw new Error('as asked');
  if (job.name === 'third time lucky' && job.attemptsMade < 2) throw new Error('not yet');
  if (job.name === 'reports') await job.updateProgress(50);
  if (job.name === 'parent') return Object.values(await job.getChildrenValues()).sort((a, b) => a - b);
  done.push(job.data.n);
  return job.data.n * 2;
}

check('results come back', async () => {
  await Promise.all([events.waitUntilReady(), worker.waitUntilReady()]);
  const jobs = await queue.addBulk(range(100).map((n) => ({ name: 'doubles', data: { n } })));
  same(await Promise.all(jobs.map((job) => job.waitUntilFinished(events, WAIT))), range(100).map((n) => 2 * n));
  same(await queue.getJobCounts('completed', 'failed', 'waiting', 'active'), { completed: 100, failed: 0, waiting: 0, active: 0 });
});

check('failures and retries', async () => {
  const fails = await queue.add('fails', {});
  ok(/as asked/.test(String(await rejected(fails.waitUntilFinished(events, WAIT)))));
  const lucky = await queue.add('third time lucky', { n: 21 }, { attempts: 3, backoff: { type: 'fixed', delay: 50 } });
  same(await lucky.waitUntilFinished(events, WAIT), 42);
  same((await queue.getJob(lucky.id)).attemptsMade, 3);
});

check('delayed jobs', async () => {
  const start = Date.now();
  const job = await queue.add('later', { n: 1 }, { delay: 700 });
  same(await job.getState(), 'delayed');
  same(await job.waitUntilFinished(events, WAIT), 2);
  ok(Date.now() - start >= 690, 'waited');
});

check('priorities decide the order', async () => {
  await queue.pause();
  const from = done.length;
  const jobs = await queue.addBulk([[301, 9], [302, 1], [303, 5]].map(([n, priority]) => ({ name: 'urgent', data: { n }, opts: { priority } })));
  const one = made(new Worker('work', process, { prefix, connection, concurrency: 1, autorun: false }));
  await worker.pause();
  await queue.resume();
  const running = one.run();
  await Promise.all(jobs.map((job) => job.waitUntilFinished(events, WAIT)));
  same(done.slice(from), [302, 303, 301]);
  await one.close();
  await running;
  worker.resume();
});

check('progress events', async () => {
  const seen = [];
  events.on('progress', ({ data }) => seen.push(data));
  const job = await queue.add('reports', { n: 4 });
  same(await job.waitUntilFinished(events, WAIT), 8);
  await eventually(() => seen.includes(50), 'the progress');
});

check('flows', async () => {
  const flows = made(new FlowProducer({ prefix, connection }));
  const tree = await flows.add({ name: 'parent', queueName: 'work', children: range(5).map((n) => ({ name: 'child', queueName: 'work', data: { n } })) });
  same(await tree.job.waitUntilFinished(events, WAIT), [0, 2, 4, 6, 8]);
});

check('job schedulers', async () => {
  const from = done.length;
  await queue.upsertJobScheduler('often', { every: 200 }, { name: 'tick', data: { n: 500 } });
  await eventually(() => done.slice(from).filter((n) => n === 500).length >= 3, 'three ticks');
  same(await queue.removeJobScheduler('often'), true);
});

check('same id, one job', async () => {
  await Promise.all(range(10).map(() => queue.add('once', { n: 600 }, { jobId: 'only-one' })));
  await eventually(() => done.includes(600), 'the job');
  same(done.filter((n) => n === 600).length, 1);
});

check('a stopped queue is emptied, under its prefix', async () => {
  const r = new Redis({ host, port });
  const names = [];
  for await (const keys of r.scanStream({ match: '*bull*', count: 500 })) names.push(...keys);
  ok(names.length > 50 && names.every((name) => name.startsWith(`${prefix}:work:`)), `${names.length} keys`);
  await worker.pause();
  await queue.obliterate({ force: true });
  same(await queue.getJobCounts('completed', 'waiting', 'delayed'), { completed: 0, waiting: 0, delayed: 0 });
  r.disconnect();
});

await run(async () => { for (const one of open) await one.close().catch(() => {}); });
