"""The tasks of celery_job.py. Broker and result backend share one hash tag, as Celery's documentation says for a cluster."""

from celery import Celery

from checks import URL

app = Celery("jobs", broker=URL, backend=URL)
prefix = {"global_keyprefix": "{celery}"}
app.conf.update(
    broker_transport_options={**prefix, "visibility_timeout": 60},
    result_backend_transport_options=prefix,
    broker_connection_retry_on_startup=True,
    result_extended=True,
    task_track_started=True,
    task_routes={"celery_app.elsewhere": {"queue": "other"}},
    worker_send_task_events=True,
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=5)
def third_time_lucky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task
def elsewhere(value):
    return {"was": value}


@app.task(bind=True)
def report(self, steps):
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"step": step})
    return steps


@app.task(rate_limit="1000/s", ignore_result=True)
def forget(value):
    return value
