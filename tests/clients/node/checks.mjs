// What every Node.js job is made of: named checks, one line of output each, a plan at the end (TAP).
// A check that throws or takes too long fails alone. Must never decide what a proxy may answer.
import assert from 'node:assert/strict';
import process from 'node:process';

export const host = process.env.REDIS_HOST;
export const port = Number(process.env.REDIS_PORT);
export const url = `redis://${host}:${port}`;
export const same = assert.deepStrictEqual;
export const ok = assert.ok;

const CHECK_MILLISECONDS = 20_000;
const all = [];

export const check = (name, run) => all.push({ name, run });
export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export const range = (count) => [...Array(count).keys()];

/** Waits until the condition holds and returns what it returned. */
export async function eventually(condition, what, milliseconds = 10_000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const found = await condition();
    if (found) return found;
    assert.ok(Date.now() < end, `${what}: not within ${milliseconds} ms`);
    await sleep(20);
  }
}

/** The error that the promise must be rejected with. */
export async function rejected(promise) {
  try {
    assert.fail(`no error, but ${JSON.stringify(await promise)}`);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return error;
  }
}

async function within(promise) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no result within ${CHECK_MILLISECONDS} ms`)), CHECK_MILLISECONDS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The place in the job, as `file:line: `. */
function place(error) {
  const line = (error?.stack ?? '').split('\n').find((text) => /\.mjs:\d+/.test(text) && !text.includes('checks.mjs'));
  return line ? `${/([^/]+\.mjs:\d+)/.exec(line)[1]}: ` : '';
}

/** Runs all checks in order and ends the process. */
export async function run(cleanUp = () => {}) {
  let failed = 0;
  for (const { name, run } of all) {
    try {
      await within(run());
      console.log(`ok - ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok - ${name}: ${place(error)}${error}`.replace(/\s+/g, ' '));
    }
  }
  console.log(`1..${all.length}`);
  await Promise.race([cleanUp(), sleep(5000)]);
  process.exit(failed ? 1 : 0);
}

// Clients repeat a refused command in the background: the check that waits for it fails, not the whole job.
process.on('unhandledRejection', (error) => console.log(`# unhandled: ${error}`));
