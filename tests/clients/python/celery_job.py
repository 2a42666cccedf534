"""Celery: a worker process, tasks through the broker, results, retries, groups, chains, chords, remote control, revocation."""

import os
import subprocess
import sys
import time

from celery import chain, chord, group

from celery_app import add, app, elsewhere, fail, forget, report, third_time_lucky, total
from checks import HOST, PORT, Checks, eventually, raises, same

import redis

checks = Checks()
WAIT = 15
WORKER = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool=threads", "--concurrency=4", "--queues=celery,other", "--loglevel=WARNING", "--hostname=job@%h"]


def start_worker():
    here = os.path.dirname(os.path.abspath(__file__))
    return subprocess.Popen(WORKER, env={**os.environ, "PYTHONPATH": here})


@checks
def worker_answers_a_ping():
    found = eventually(lambda: app.control.ping(timeout=1), "a worker", 18)
    same([list(reply.values()) for reply in found], [[{"ok": "pong"}]])


@checks
def results_come_back():
    results = [add.delay(n, n) for n in range(50)]
    same([result.get(timeout=WAIT) for result in results], [2 * n for n in range(50)])
    same({result.state for result in results}, {"SUCCESS"})


@checks
def failures_are_raised():
    error = raises(ValueError, fail.delay("as asked").get, timeout=WAIT)
    same(str(error), "as asked")


@checks
def retries():
    same(third_time_lucky.delay().get(timeout=WAIT), 2)


@checks
def other_queue_and_countdown():
    start = time.monotonic()
    result = elsewhere.apply_async(("x",), countdown=1)
    same(result.get(timeout=WAIT), {"was": "x"})
    assert time.monotonic() - start >= 0.9


@checks
def chains_groups_and_chords():
    same(chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=WAIT), 10)
    same(group(add.s(n, 1) for n in range(20)).apply_async().get(timeout=WAIT), [n + 1 for n in range(20)])
    same(chord((add.s(n, n) for n in range(20)), total.s()).apply_async().get(timeout=WAIT), 380)


@checks
def progress_and_forgetting():
    result = report.delay(3)
    same((result.get(timeout=WAIT), result.state), (3, "SUCCESS"))
    result.forget()
    same(app.AsyncResult(result.id).state, "PENDING")


@checks
def revoked_tasks_do_not_run():
    late = add.apply_async((1, 1), countdown=3)
    app.control.revoke(late.id)
    eventually(lambda: any(late.id in ids for ids in (app.control.inspect(timeout=1).revoked() or {}).values()), "the revocation")
    eventually(lambda: late.state == "REVOKED", "the state")


@checks
def remote_control_sees_the_worker():
    seen = app.control.inspect(timeout=1)
    queues = [sorted(queue["name"] for queue in queues) for queues in seen.active_queues().values()]
    same(queues, [["celery", "other"]])
    same(seen.scheduled() is not None, True)


@checks
def everything_lies_under_the_prefix():
    for n in range(10):
        forget.delay(n)
    r = redis.Redis(HOST, PORT, decode_responses=True)
    eventually(lambda: r.llen("{celery}celery") == 0, "an empty queue")
    names = [key for key in r.scan_iter(count=1000) if "celery" in key or "kombu" in key or "unacked" in key]
    assert len(names) > 100, names
    same([key for key in names if not key.startswith("{celery}")], [])


if __name__ == "__main__":
    worker = start_worker()
    try:
        checks.run()
    finally:
        worker.terminate()
        worker.wait(20)
