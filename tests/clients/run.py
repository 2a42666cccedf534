#!/usr/bin/env python3
"""`make test-clients`: real clients and frameworks do real work through slotway, in front of a fresh cluster of 3 primaries and 3 replicas.

    tests/clients/run.py [NAME …]      all jobs, or those whose name begins with one of the names (redis-cli, celery, ioredis …)
    tests/clients/run.py --single      against plain redis-servers instead: tells a broken job from a broken proxy
    tests/clients/run.py --target H:P  against something that runs already, and is empty
    tests/clients/run.py --list        names and nothing else

A job is a program that is told REDIS_HOST and REDIS_PORT and prints one line per check, `ok - NAME` or `not ok - NAME: WHY`, then
`1..N`, how many there were. What a job starts dies with it: each runs in a session of its own, ended as a whole. Everything that is
installed or built lands in target/clients. Exit code 0: every check of every job passed. Must never touch a server it did not start.

Environment: SLOTWAY_BIN, the binary to test (else cargo builds it).
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from install import WORK, Failed, node, python, rust, slotway

DEMO_SECONDS = 60
TAIL = 25

JOBS = {
    # name: (what runs it, seconds it may take, its file or folder, words it is given)
    "redis-cli": ("python", 240, "cli/redis_cli.py"),
    "redis-py": ("python", 240, "python/redis_py_data.py"),
    "redis-py-sessions": ("python", 240, "python/redis_py_sessions.py"),
    "redis-py-asyncio": ("python", 240, "python/redis_py_asyncio.py"),
    "redis-py-cluster": ("python", 240, "python/redis_py_cluster.py"),
    "celery": ("python", 240, "python/celery_job.py"),
    "huey": ("python", 240, "python/huey_job.py"),
    "node-redis": ("node", 240, "node/node_redis.mjs"),
    "ioredis": ("node", 240, "node/ioredis.mjs"),
    "ioredis-cluster": ("node", 240, "node/ioredis_cluster.mjs"),
    "bullmq": ("node", 240, "node/bullmq.mjs"),
    "socket.io": ("node", 240, "node/socketio.mjs"),
    "redis-rs": ("rust", 240, "rust"),
    "redis-rs-cluster": ("rust", 240, "rust", "cluster"),
}
# What needs a node that says it is a cluster, when there is no slotway that says so for them.
CLUSTER_CLIENTS = {"redis-py-cluster", "ioredis-cluster", "redis-rs-cluster"}


class Demo:
    """`slotway demo`: the cluster and the proxy, and nothing left behind however we end."""

    def __init__(self, binary, log):
        self.log = open(log, "w+")
        command = [binary, "demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def address(self):
        end = time.monotonic() + DEMO_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"^slotway listens on ([^;]+):(\d+);", self.text(), re.MULTILINE)
            if found:
                return found.groups()
            time.sleep(0.05)
        raise Failed(f"slotway demo did not come up:\n{self.text()}")

    def text(self):
        return Path(self.log.name).read_text()

    def stop(self):
        """Whether it was still alive and ended as it should."""
        alive = self.process.poll() is None
        self.process.terminate()
        try:
            return alive and self.process.wait(30) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False


class Single:
    """One redis-server; with `cluster` it owns all slots."""

    def __init__(self, folder, cluster):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        if cluster and int(self.port) > 55535:  # its bus listens 10000 higher
            self.port = str(int(self.port) - 20000)
        options = ["--bind", "127.0.0.1", "--cluster-announce-ip", "127.0.0.1", "--save", "", "--dir", folder, "--cluster-enabled", "yes" if cluster else "no"]
        self.process = subprocess.Popen(["redis-server", "--port", self.port, *options], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.cluster = cluster

    def address(self):
        cli = ["redis-cli", "-p", self.port]
        end = time.monotonic() + 10
        if self.cluster:
            self.until(end, [*cli, "CLUSTER", "ADDSLOTSRANGE", "0", "16383"], "OK")
        self.until(end, [*cli, "SET", "up", "1"], "OK")
        return "127.0.0.1", self.port

    @staticmethod
    def until(end, command, wanted):
        while subprocess.run(command, capture_output=True, text=True).stdout.strip() != wanted:
            if time.monotonic() > end:
                raise Failed("redis-server did not come up")
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        return True


class Given:
    """--target."""

    def __init__(self, address):
        self.host_port = address.rsplit(":", 1)

    def address(self):
        return self.host_port

    def stop(self):
        return True


class Result:
    """What a job said."""

    def __init__(self, name, lines, failure):
        self.name = name
        self.passed = [line for line in lines if line.startswith("ok - ")]
        self.failed = [line.removeprefix("not ok - ") for line in lines if line.startswith("not ok - ")]
        plan = [line for line in lines if re.fullmatch(r"1\.\.\d+", line)]
        ran = len(self.passed) + len(self.failed)
        if failure:
            self.failed.append(failure)
        elif plan != [f"1..{ran}"] or ran == 0:
            self.failed.append(f"said {plan or 'nothing'} about the number of its checks and ran {ran}")


def run(name, address):
    """Runs one job; what it said beside its checks is shown when it fails."""
    kind, seconds, file, *words = JOBS[name]
    command = [*{"python": python, "node": node, "rust": rust}[kind](file), *words]
    environment = {**os.environ, "REDIS_HOST": address[0], "REDIS_PORT": address[1], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    # A folder of its own: frameworks write pid and schedule files where they stand.
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        with open(Path(folder) / "output", "w+b") as output, open(Path(folder) / "errors", "w+b") as errors:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True)
            timer = threading.Timer(seconds, end_session, [process.pid])
            timer.start()
            try:
                code = process.wait()
            finally:
                late = not timer.is_alive()
                timer.cancel()
                end_session(process.pid)
                process.wait()
            lines, complaints = text_of(output), text_of(errors)
    failure = f"not done within {seconds} s" if late else f"exit code {code}" if code not in (0, 1) else ""
    result = Result(name, lines, failure)
    if code == 1 and not result.failed:
        result.failed.append("exit code 1 without a failed check")
    if result.failed:
        said = [line for line in lines if not line.startswith(("ok - ", "not ok - ", "1.."))]
        for line in [*said[-TAIL:], *complaints[-TAIL:]]:
            print(f"    | {line}")
    return result


def text_of(file):
    file.seek(0)
    return file.read().decode(errors="replace").splitlines()


def end_session(leader):
    """Ends what the job started and left running."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def options():
    parser = argparse.ArgumentParser(description="real clients and frameworks through slotway")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only jobs whose name begins so")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--single", action="store_true", help="against plain redis-servers")
    where.add_argument("--target", metavar="HOST:PORT", help="against what runs there")
    parser.add_argument("--list", action="store_true", help="print the names of the jobs")
    asked = parser.parse_args()
    names = [name for name in JOBS if not asked.names or name.startswith(tuple(asked.names))]
    if not names:
        parser.error(f"no job begins with {' or '.join(asked.names)}")
    return asked, names


def targets(asked, folder):
    """The target of ordinary jobs and of cluster clients."""
    if asked.target:
        return [Given(asked.target)] * 2
    if asked.single:
        folders = [tempfile.mkdtemp(dir=folder) for _ in range(2)]
        return [Single(folders[0], False), Single(folders[1], True)]
    return [Demo(slotway(), Path(folder) / "demo.log")] * 2


def main():
    asked, names = options()
    if asked.list:
        print("\n".join(names))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    WORK.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(dir=WORK)
    passed, failed, started = 0, [], []
    try:
        started = targets(asked, folder)
        addresses = [target.address() for target in started]
        for name in names:
            start = time.monotonic()
            result = run(name, addresses[name in CLUSTER_CLIENTS])
            print(f"{'FAIL' if result.failed else 'ok  '} {name}: {len(result.passed)} passed, {len(result.failed)} failed, {time.monotonic() - start:.0f} s", flush=True)
            for text in result.failed:
                print(f"       - {text}")
            passed += len(result.passed)
            failed += [f"{name}: {text}" for text in result.failed]
        if isinstance(started[0], Demo) and started[0].process.poll() is not None:
            failed.append("slotway ended by itself")
            print(started[0].text())
    finally:
        for target in dict.fromkeys(started):
            if not target.stop():
                failed.append("slotway did not end as it should")
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"test-clients: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
