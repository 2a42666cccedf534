// socket.io: two servers that know of each other only through Redis, with the plain and the sharded adapter, on ioredis and node-redis.
import { createServer } from 'node:http';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import Redis from 'ioredis';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { io } from 'socket.io-client';
import { check, eventually, host, port, range, run, same, url } from './checks.mjs';

const open = [];

async function nodeRedis() {
  const made = createClient({ url });
  made.on('error', (error) => console.log(`# ${error}`));
  await made.connect();
  open.push(() => made.destroy());
  return made;
}

async function ioRedis() {
  const made = new Redis({ host, port, maxRetriesPerRequest: 2 });
  made.on('error', (error) => console.log(`# ${error}`));
  open.push(() => made.disconnect());
  return made;
}

async function server(adapter) {
  const http = createServer();
  const made = new Server(http, { adapter: await adapter() });
  made.on('connection', (socket) => {
    socket.on('join', async (room, done) => { await socket.join(room); done(); });
    socket.on('say', (room, text) => made.to(room).emit('said', text));
  });
  made.on('double', (n, done) => done(2 * n));
  await new Promise((ready) => http.listen(0, '127.0.0.1', ready));
  open.push(() => made.close());
  return { io: made, port: http.address().port };
}

async function user(at, room) {
  const socket = io(`http://127.0.0.1:${at.port}`, { transports: ['websocket'] });
  open.push(() => socket.disconnect());
  const got = [];
  socket.on('said', (text) => got.push(text));
  socket.on('ask', (n, done) => done(n + 1));
  await new Promise((ready) => socket.on('connect', ready));
  await new Promise((ready) => socket.emit('join', room, ready));
  return { socket, got };
}

const makers = {
  'plain adapter on ioredis': (key) => async () => createAdapter(await ioRedis(), await ioRedis(), { key }),
  'plain adapter on node-redis': (key) => async () => createAdapter(await nodeRedis(), await nodeRedis(), { key }),
  'sharded adapter on ioredis': (channelPrefix) => async () => createShardedAdapter(await ioRedis(), await ioRedis(), { channelPrefix }),
  'sharded adapter on node-redis': (channelPrefix) => async () => createShardedAdapter(await nodeRedis(), await nodeRedis(), { channelPrefix }),
  'sharded adapter, a channel per room': (channelPrefix) => async () =>
    createShardedAdapter(await nodeRedis(), await nodeRedis(), { channelPrefix, subscriptionMode: 'dynamic' }),
};

for (const [name, maker] of Object.entries(makers)) {
  check(name, async () => {
    const make = maker(`sio ${name}`);
    const [left, right] = [await server(make), await server(make)];
    const [anna, bert, cleo] = [await user(left, 'blue'), await user(right, 'blue'), await user(right, 'red')];
    await eventually(async () => (await left.io.fetchSockets()).length === 3, 'both servers to know of each other');
    for (const n of range(50)) anna.socket.emit('say', 'blue', n);
    await eventually(() => anna.got.length >= 50 && bert.got.length >= 50, 'all messages');
    same([anna.got, bert.got, cleo.got], [range(50), range(50), []]);
    left.io.emit('said', 'to all');
    await eventually(() => [anna, bert, cleo].every((one) => one.got.at(-1) === 'to all'), 'the broadcast');
    same((await left.io.timeout(5000).emitWithAck('ask', 6)), [7, 7, 7]);
    same(await left.io.serverSideEmitWithAck('double', 21), [42]);
    left.io.in('red').socketsJoin('blue');
    await eventually(async () => (await right.io.in('blue').fetchSockets()).length === 3, 'the move');
    right.io.to('blue').emit('said', 'once more');
    await eventually(() => [anna, bert, cleo].every((one) => one.got.at(-1) === 'once more'), 'the last message');
    left.io.in('blue').disconnectSockets();
    await eventually(() => [anna, bert, cleo].every((one) => one.socket.disconnected), 'everybody to be gone');
  });
}

await run(() => open.reverse().forEach((end) => end()));
