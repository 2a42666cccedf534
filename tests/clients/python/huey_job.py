"""Huey: a consumer with threads in this process, tasks, results, retries, schedules, pipelines, locks and priorities.

The queue's name carries the hash tag; `clean_name=False` keeps its braces.
"""

import time

from huey import PriorityRedisHuey, RedisHuey, crontab
from huey.exceptions import TaskException, TaskLockedException

from checks import HOST, PORT, Checks, eventually, raises, same

checks = Checks()
WAIT = 15
at = {"host": HOST, "port": PORT, "clean_name": False}
huey = RedisHuey("{huey}", **at, notify_result=True)
urgent = PriorityRedisHuey("{urgent}", **at)
ran = []


@huey.task()
def add(x, y):
    return x + y


@huey.task(retries=3, retry_delay=0, context=True)
def third_time_lucky(task=None):
    if task.retries > 1:
        raise ValueError("not yet")
    ran.append(f"retries left: {task.retries}")


@huey.task()
def fail():
    raise ValueError("as asked")


@huey.task()
def alone(seconds):
    with huey.lock_task("only one"):
        time.sleep(seconds)
        return "done"


@huey.periodic_task(crontab(minute="*"))
def every_minute():
    ran.append("periodic")


@urgent.task()
def note(value):
    ran.append(value)


@checks
def results_come_back():
    results = [add(n, 1) for n in range(100)]
    same([result.get(blocking=True, timeout=WAIT) for result in results], [n + 1 for n in range(100)])


@checks
def failures_are_raised():
    error = raises(TaskException, fail().get, blocking=True, timeout=WAIT)
    assert "as asked" in str(error), error


@checks
def retries():
    third_time_lucky()
    eventually(lambda: "retries left: 1" in ran, "the third run")


@checks
def schedule_and_revocation():
    start = time.monotonic()
    late, never = add.schedule((1, 2), delay=1), add.schedule((3, 4), delay=1)
    never.revoke()
    same(late.get(blocking=True, timeout=WAIT), 3)
    assert time.monotonic() - start >= 0.9
    same(never.get(), None)


@checks
def steps_in_a_row():
    results = huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))
    same([result.get(blocking=True, timeout=WAIT) for result in results], [3, 6, 10])


@checks
def one_lock_one_holder():
    first = alone(1)
    eventually(lambda: huey.is_locked("only one"), "the lock")
    error = raises(TaskException, alone(0).get, blocking=True, timeout=WAIT)
    assert TaskLockedException.__name__ in str(error), error
    same(first.get(blocking=True, timeout=WAIT), "done")


@checks
def priorities_decide_the_order():
    for value, priority in (("low", 1), ("high", 9), ("middle", 5)):
        note(value, priority=priority)
    same(len(urgent), 3)
    consumer = urgent.create_consumer(workers=1, periodic=False)
    consumer.start()
    noted = lambda: [value for value in ran if value in ("low", "middle", "high")]
    eventually(lambda: len(noted()) == 3, "three tasks")
    consumer.stop(graceful=True)
    same(noted(), ["high", "middle", "low"])


@checks
def the_queue_is_empty_and_the_store_clean():
    eventually(lambda: huey.pending_count() == 0, "an empty queue")
    huey.put("key", {"a": 1})
    same((huey.get("key", peek=True), huey.get("key"), huey.get("key")), ({"a": 1}, {"a": 1}, None))


if __name__ == "__main__":
    consumer = huey.create_consumer(workers=4, periodic=True, check_worker_health=False, scheduler_interval=1)
    consumer.start()
    try:
        checks.run()
    finally:
        consumer.stop(graceful=False)
