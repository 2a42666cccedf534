"""redis-cli as people use it: one command, a script on stdin, --pipe, --scan, --eval, subscribe; plain, with -c and with -3."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
from checks import HOST, PORT, Checks, eventually, same

checks = Checks()
MODES = {"plain": [], "-c": ["-c"], "-3": ["-3"], "-c -3": ["-c", "-3"]}


def start(mode, *words):
    command = ["redis-cli", "-h", HOST, "-p", str(PORT), *MODES[mode], *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def cli(mode, *words, stdin=""):
    """What redis-cli prints, without the last line end."""
    text, _ = start(mode, *words).communicate(stdin if isinstance(stdin, bytes) else stdin.encode())
    return text.decode().removesuffix("\n")


def commands(mode):
    key = f"cli:{mode}"
    same(cli(mode, "PING"), "PONG")
    same(cli(mode, "SET", key, "a value"), "OK")
    same(cli(mode, "GET", key), "a value")
    same(cli(mode, "MSET", *(word for n in range(20) for word in (f"{key}:{n}", str(n)))), "OK")
    same(cli(mode, "MGET", *(f"{key}:{n}" for n in range(20))), "\n".join(map(str, range(20))))
    same(cli(mode, "DEL", *(f"{key}:{n}" for n in range(20))), "20")
    same(cli(mode, "LPUSH", key, "x"), "WRONGTYPE Operation against a key holding the wrong kind of value\n")
    same(cli(mode, "--no-raw", "INCR", f"{key}:n"), "(integer) 1")
    same(cli(mode, "DEL", f"{key}:n"), "1")
    same(cli(mode, "-x", "SET", key, stdin=b"from stdin"), "OK")
    same(cli(mode, "GET", key), "from stdin")
    same(cli(mode, "--json", "HGETALL", "cli:none"), "{}")


def a_session_on_stdin(mode):
    tag = f"{{cli:{mode}:tx}}".replace(" ", "")
    script = f"DEL {tag}l\nMULTI\nRPUSH {tag}l a b\nLRANGE {tag}l 0 -1\nEXEC\nOBJECT ENCODING {tag}l\nTYPE {tag}l\n"
    found = cli(mode, stdin=script).split("\n")
    same(found[0] in ("0", "1"), True)
    same(found[1:4], ["OK", "QUEUED", "QUEUED"])
    same(found[4:7], ["2", "a", "b"])
    same((found[7] in ("listpack", "quicklist"), found[8]), (True, "list"))


def pipe_mode(mode):
    words = lambda *all: f"*{len(all)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in (word.encode() for word in all))
    data = b"".join(words("SET", f"cli:pipe:{mode}:{n}", str(n)) for n in range(5000))
    text = cli(mode, "--pipe", stdin=data)
    same(text.split("\n")[-1], "errors: 0, replies: 5000")
    same(cli(mode, "GET", f"cli:pipe:{mode}:4999"), "4999")


def scan(mode):
    cli(mode, "MSET", *(word for n in range(300) for word in (f"cli:scan:{mode}:{n}", "v")))
    same(set(cli(mode, "--scan", "--pattern", f"cli:scan:{mode}:*").split("\n")), {f"cli:scan:{mode}:{n}" for n in range(300)})


def scripts(mode):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write("return {KEYS[1], KEYS[2], ARGV[1]}")
        file.flush()
        same(cli(mode, "--eval", file.name, "{cli}a", "{cli}b", ",", "c"), "{cli}a\n{cli}b\nc")
    sha = cli(mode, "SCRIPT", "LOAD", "return ARGV[1]")
    same([cli(mode, "EVALSHA", sha, "1", f"cli:{n}", str(n)) for n in range(6)], [str(n) for n in range(6)])


def subscribe(mode):
    listening = start(mode, "SUBSCRIBE", f"cli:news:{mode}")
    try:
        eventually(lambda: cli(mode, "PUBLISH", f"cli:news:{mode}", "hello") == "1", "a subscriber")
        lines = [listening.stdout.readline().decode().strip() for _ in range(6)]
        same([line for line in lines if not line.startswith("Reading messages")][-3:], ["message", f"cli:news:{mode}", "hello"])
    finally:
        listening.kill()
        listening.communicate()


def what_it_shows_of_the_server(mode):
    assert "redis_version:" in cli(mode, "INFO", "server")
    same(cli(mode, "DBSIZE").isdigit(), True)
    same(cli(mode, "ACL", "WHOAMI"), "default")
    same(cli(mode, "CLIENT", "SETNAME", "someone"), "OK")


for name in MODES:
    for check in (commands, a_session_on_stdin, pipe_mode, scan, scripts, subscribe, what_it_shows_of_the_server):
        checks.add(check, f"{check.__name__}, {name}", name)

if __name__ == "__main__":
    checks.run()
