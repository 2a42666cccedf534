"""Has the binary itself judge every rendered slotway.toml, so that manifests and code cannot drift apart."""

import os
import subprocess
import tempfile
from pathlib import Path

AUTH_FOLDER = "/etc/slotway/auth"
CONFIG_FILE = "slotway.toml"


def find_binary(root):
    """`(path, None)` of the slotway to ask, or `(None, why not)`."""
    if "SLOTWAY_BIN" in os.environ:
        named = Path(os.environ["SLOTWAY_BIN"])
        return (named, None) if named.is_file() else (None, f"SLOTWAY_BIN={named}: no such file")
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    built = [path for path in (target / "release" / "slotway", target / "debug" / "slotway") if path.is_file()]
    if built:
        return max(built, key=lambda path: path.stat().st_mtime), None
    try:
        run = subprocess.run(["cargo", "build", "--quiet", "--locked", "--bin", "slotway"], cwd=root)
    except OSError as error:
        return None, f"no slotway binary, and cargo does not start: {error}"
    return (target / "debug" / "slotway", None) if run.returncode == 0 else (None, "no slotway binary, and cargo could not build one")


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
