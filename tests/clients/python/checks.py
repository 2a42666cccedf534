"""What every Python job is made of: named checks, one line of output each, a plan at the end (TAP).

A check that raises or takes too long fails alone; the others still run. Must never decide what a proxy may answer.
"""

import asyncio
import inspect
import os
import signal
import sys
import time
import traceback

HOST = os.environ["REDIS_HOST"]
PORT = int(os.environ["REDIS_PORT"])
URL = f"redis://{HOST}:{PORT}/0"
CHECK_SECONDS = 20


class TooLong(BaseException):
    """Not an Exception, so that no client mistakes it for a network error and tries again."""


def _alarm(*_):
    raise TooLong(f"no result within {CHECK_SECONDS} s")


def same(found, wanted):
    """Fails unless both are equal, and says what was found."""
    assert found == wanted, f"got {short(found)}, wanted {short(wanted)}"


def short(value):
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + " …"


def raises(kind, call, *args, **options):
    """The error that the call must raise."""
    try:
        found = call(*args, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {short(found)}")


def eventually(condition, what, seconds=10):
    """Waits until the condition holds and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Checks:
    """Collects checks and runs them in order."""

    def __init__(self):
        self.all = []

    def add(self, function, name=None, *args):
        self.all.append((name or function.__name__, function, args))

    def __call__(self, function):
        self.add(function)
        return function

    def run(self):
        signal.signal(signal.SIGALRM, _alarm)
        failed = 0
        for name, function, args in self.all:
            try:
                if inspect.iscoroutinefunction(function):
                    asyncio.run(asyncio.wait_for(function(*args), CHECK_SECONDS))
                else:
                    signal.alarm(CHECK_SECONDS)
                    function(*args)
                line = f"ok - {name}"
            except (Exception, TooLong) as error:  # whatever a client throws is the check's result
                failed += 1
                line = f"not ok - {name}: {place(error)}{type(error).__name__}: {error}".replace("\n", " ")
            finally:
                signal.alarm(0)
            print(line, flush=True)
        print(f"1..{len(self.all)}", flush=True)
        sys.exit(1 if failed else 0)


def place(error):
    """Line of the check that failed, as `file:line: `."""
    here = os.path.dirname(os.path.abspath(__file__))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.dirname(f.filename) == here and f.filename != __file__]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""
