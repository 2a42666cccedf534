#!/usr/bin/env python3
"""`make deploy-check`: proves what can be proven about deploy/ without a cluster.

Renders the base and every overlay, validates them against the Kubernetes schemas, checks that the objects fit together (checks/rules.py),
checks the Dockerfile, has every rendered configuration accepted by `slotway check`, and at the end breaks everything on purpose to see that
the checks notice (checks/mutations.py; alone: `--self-test`). Exit code 0: all of it holds. Must never talk to a cluster or write
outside target/ and temporary folders.

Environment: SLOTWAY_BIN, the binary that checks the configuration (else cargo builds it).
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "deploy-check-venv"
# Brings PyYAML with it. tomli is what Python has as tomllib since 3.11.
REQUIREMENTS = ["kubernetes-validate==1.37.0", "tomli; python_version < '3.11'"]
IMPORTS = "import kubernetes_validate, yaml\ntry: import tomllib\nexcept ImportError: import tomli"


def has_libraries(python):
    """Whether that interpreter can run the checks."""
    try:
        return subprocess.run([str(python), "-c", IMPORTS], capture_output=True).returncode == 0
    except OSError:
        return False


def enter_venv():
    """Goes on in an interpreter that has the libraries, after installing them into target/ if need be."""
    if has_libraries(sys.executable):
        return
    python = VENV / "bin" / "python"
    if Path(sys.prefix) == VENV:
        sys.exit(f"deploy-check: the libraries in {VENV} do not load; delete that folder and try again")
    if not has_libraries(python):
        print(f"installing {REQUIREMENTS[0]} into {VENV.relative_to(ROOT)}", flush=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        for command in ([sys.executable, "-m", "venv", "--clear", str(VENV)], pip):
            if subprocess.run(command).returncode != 0:
                sys.exit("deploy-check: cannot install the validator (Debian: apt-get install python3-venv)")
    os.execv(str(python), [str(python), *sys.argv])


class Report:
    """One line per step; remembers whether any failed."""

    def __init__(self):
        self.failed = False

    def step(self, name, failures, detail=""):
        self.failed = self.failed or bool(failures)
        print(f"{'FAIL' if failures else 'ok  '} {name}{': ' + detail if detail else ''}", flush=True)
        for failure in failures:
            print(f"       - {failure}")


def main():
    enter_venv()
    from checks import config, dockerfile, mutations, render, rules, schema

    if sys.argv[1:] not in ([], ["--self-test"]):
        sys.exit("usage: deploy/check.py [--self-test]")
    report = Report()
    try:
        rendered, how = render.all_of(ROOT / "deploy" / "kustomize")
    except render.Failed as error:
        report.step("render", [str(error)])
        return 1
    if not sys.argv[1:]:
        report.step("render", [], how)
        report.step("Dockerfile", dockerfile.check(ROOT), "deploy/Dockerfile, .dockerignore")
        binary, problem = config.find_binary(ROOT)
        for name, objects in rendered.items():
            report.step(f"{name}: schema", schema.check(objects), f"{len(objects)} objects, Kubernetes {', '.join(schema.VERSIONS)}")
            report.step(f"{name}: rules", [f"[{rule}] {text}" for rule, text in rules.check(objects)], f"{len(rules.RULES)} rules")
            report.step(f"{name}: slotway check", [problem] if problem else config.check(binary, objects), str(binary or ""))
        if binary:
            report.step("slotway check notices mistakes", config.self_test(binary, rendered["base"]))
    missed, total = mutations.self_test(ROOT, rendered["base"])
    report.step("self-test", missed, f"{total} deliberate mistakes" + ("" if missed else ", all noticed"))
    return int(report.failed)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
