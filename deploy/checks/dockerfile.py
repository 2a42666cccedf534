"""Reads deploy/Dockerfile and .dockerignore: what the image must be, as far as it can be told without building it."""

import json
import re


def instructions(text):
    """`(NAME, arguments)` of every instruction, comments dropped and continuation lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def check(root):
    """What is wrong with the files of this repository."""
    ignored = (root / ".dockerignore").read_text()
    failures = check_text((root / "deploy" / "Dockerfile").read_text(), ignored, embedded_files(root), rust_version(root))
    return failures + targets((root / "Cargo.toml").read_text())


def targets(manifest):
    """Every target says where it is: the image is built without tests and benches, and cargo refuses a target whose file it cannot guess."""
    found = re.findall(r"^\[\[(\w+)\]\]\n((?:(?!\[).*\n)*)", manifest, re.M)
    return [f"Cargo.toml: a [[{kind}]] without path: cargo cannot build where its file is not copied" for kind, body in found if "path = " not in body]


def rust_version(root):
    """The oldest compiler Cargo.toml allows."""
    match = re.search(r'^rust-version = "(\d+)\.(\d+)', (root / "Cargo.toml").read_text(), re.M)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def embedded_files(root):
    """Paths outside src/ that the binary takes in at compile time."""
    paths = set()
    for source in (root / "src").rglob("*.rs"):
        code = re.sub(r"^\s*//.*$", "", source.read_text(), flags=re.M)
        for match in re.finditer(r'include_(?:str|bytes)!\(\s*"([^"]+)"', code):
            paths.add((source.parent / match[1]).resolve().relative_to(root).as_posix())
        for match in re.finditer(r'concat!\(\s*env!\("CARGO_MANIFEST_DIR"\),\s*"/([^"]+)"', code):
            paths.add(match[1])
    return sorted(path for path in paths if not path.startswith("src/"))


def check_text(text, ignored, embedded, oldest_rust):
    """The rules themselves, on text, so that the self-test can break it."""
    found = instructions(text)
    starts = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    if len(starts) < 2:
        return ["not a multi-stage build"]
    failures = images(found, starts, oldest_rust)
    build, runtime = found[starts[0] : starts[-1]], found[starts[-1] :]
    failures += context(build, ignored, embedded)
    commands = " ".join(rest for name, rest in build if name == "RUN")
    if not re.search(r"cargo build\b[^&;]*--locked", commands) or not re.search(r"cargo build\b[^&;]*--release", commands):
        failures.append("`cargo build` without --locked or --release")
    return failures + final_stage(runtime)


def images(found, starts, oldest_rust):
    """Every base image is an argument with a default; the compiler is new enough."""
    failures = []
    defaults = dict(rest.split("=", 1) for name, rest in found[: starts[0]] if name == "ARG" and "=" in rest)
    stages = set()
    for index in starts:
        match = re.fullmatch(r"(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", found[index][1], re.I)
        image = match[1] if match else found[index][1]
        argument = re.fullmatch(r"\$\{(\w+)\}", image)
        if image not in stages and (not argument or argument[1] not in defaults):
            failures.append(f"FROM {image}: not an ARG with a default")
        stages.add(match[2] if match else None)
    for name, image in defaults.items():
        if name.endswith("_IMAGE") and (":" not in image or image.endswith(":latest")):
            failures.append(f"{name}={image}: no tag")
        if "/" in image and "." in image.split("/")[0]:
            failures.append(f"{name}={image}: names a registry host")
    rust = re.search(r"rust:(\d+)\.(\d+)", " ".join(defaults.values()))
    if not rust or (int(rust[1]), int(rust[2])) < oldest_rust:
        failures.append("the build image is no rust image of at least Cargo.toml's rust-version")
    return failures


def context(build, ignored, embedded):
    """What is copied is let in by .dockerignore, and all that the sources embed is copied."""
    copied = [path.rstrip("/") for name, rest in build if name == "COPY" and "--from" not in rest for path in rest.split()[:-1]]
    lines = [line.strip() for line in ignored.splitlines() if line.strip() and not line.startswith("#")]
    allowed = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    failures = [] if lines[:1] == ["*"] else [".dockerignore does not start by ignoring everything"]
    failures += [f"COPY {path}: not let in by .dockerignore" for path in copied if path not in allowed]
    for path in embedded:
        if not any(path == item or path.startswith(item + "/") for item in copied):
            failures.append(f"{path} is compiled into the binary but not copied into the build")
    return failures


def final_stage(runtime):
    """User, entry point, ports, signal and labels of the image that ships."""
    last = dict(runtime)
    failures = []
    if not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last.get("USER", "")):
        failures.append(f"USER {last.get('USER', 'missing')}: must be a number that is not root, with a group")
    for name in ("ENTRYPOINT", "CMD"):
        try:
            if not isinstance(json.loads(last.get(name, "")), list):
                raise ValueError
        except ValueError:
            failures.append(f"{name} is not in exec form")
    exposed = {port for name, rest in runtime if name == "EXPOSE" for port in rest.split()}
    if exposed != {"6379", "9145"}:
        failures.append(f"EXPOSE {sorted(exposed)}: must be 6379 and 9145")
    if last.get("STOPSIGNAL", "SIGTERM") != "SIGTERM":
        failures.append("STOPSIGNAL is not SIGTERM")
    labels = " ".join(rest for name, rest in runtime if name == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        if f"org.opencontainers.image.{label}=" not in labels:
            failures.append(f"label org.opencontainers.image.{label} is missing")
    if any(name in ("RUN", "ADD", "VOLUME") for name, _ in runtime):
        failures.append("the final stage only copies: no RUN, ADD or VOLUME")
    return failures
