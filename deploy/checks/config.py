"""Has the binary itself judge every rendered slotway.toml, so that manifests and code cannot drift apart."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

AUTH_FOLDER = "/etc/slotway/auth"
CONFIG_FILE = "slotway.toml"


def find_binary(root):
    """`(path, None)` of the slotway to ask, or `(None, why not)`. Cargo decides whether what is built is still that of the sources."""
    if "SLOTWAY_BIN" in os.environ:
        named = Path(os.environ["SLOTWAY_BIN"])
        return (named, None) if named.is_file() else (None, f"SLOTWAY_BIN={named}: no such file")
    build = ["cargo", "build", "--quiet", "--locked", "--bin", "slotway", "--message-format", "json-render-diagnostics"]
    try:
        run = subprocess.run(build, cwd=root, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        return None, f"cargo does not start: {error}"
    built = [message["executable"] for message in map(json.loads, run.stdout.splitlines()) if message.get("executable")]
    if run.returncode != 0 or not built:
        return None, "cargo could not build slotway"
    return Path(built[-1]), None


def check(binary, objects):
    """Every configuration among the objects must be accepted."""
    texts = [item["data"][CONFIG_FILE] for item in objects if item["kind"] == "ConfigMap" and CONFIG_FILE in item.get("data", {})]
    if not texts:
        return [f"no ConfigMap with {CONFIG_FILE}"]
    return [f"refused: {answer}" for code, answer in (ask(binary, text) for text in texts) if code != 0]


def self_test(binary, objects):
    """A misspelt key and a wrong value must be refused (exit code 2), or being accepted would mean nothing."""
    text = next(item["data"][CONFIG_FILE] for item in objects if item["kind"] == "ConfigMap")
    failures = []
    for mistake in ('no-such-key = "x"\n' + text, text.replace("workers = 2", 'workers = "two"')):
        code, answer = ask(binary, mistake)
        if mistake == text or code != 2:
            failures.append(f"a broken file ended with exit code {code}: {answer}")
    return failures


def ask(binary, text):
    """Exit code and last words of `slotway check` for this text, with password files that exist and no settings from our environment."""
    with tempfile.TemporaryDirectory() as folder:
        for line in text.splitlines():
            if f'"{AUTH_FOLDER}/' in line:
                Path(folder, line.split(f"{AUTH_FOLDER}/")[1].split('"')[0]).write_text("password-for-the-check\n")
        file = Path(folder, CONFIG_FILE)
        file.write_text(text.replace(AUTH_FOLDER, folder))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLOTWAY_")}
        try:
            run = subprocess.run(
                [str(binary), "check", "--config", str(file)], env=environment, capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return -1, str(error)
        return run.returncode, (run.stderr or run.stdout).strip()[-400:]
