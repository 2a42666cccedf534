"""Turns deploy/kustomize into the objects a cluster would get: `kubectl kustomize` where there is one, else a plain reading of the base."""

import hashlib
import json
import shutil
import subprocess

import yaml

OLDEST_KUBECTL = (1, 27)


class Failed(Exception):
    """Nothing could be rendered; says why."""


def all_of(folder):
    """`({name: objects}, how)` for the base and, with kubectl, every overlay."""
    version = kubectl_version()
    if version is None or version < OLDEST_KUBECTL:
        found = "no kubectl" if version is None else f"kubectl {version[0]}.{version[1]} is too old"
        how = f"{found}: base read plainly, OVERLAYS NOT CHECKED (kubectl >= {OLDEST_KUBECTL[0]}.{OLDEST_KUBECTL[1]} would)"
        return {"base": plain(folder / "base")}, how
    overlays = sorted(path.parent for path in folder.glob("overlays/*/kustomization.yaml"))
    rendered = {path.name if path.name == "base" else f"overlays/{path.name}": kustomize(path) for path in [folder / "base", *overlays]}
    return rendered, f"kubectl {version[0]}.{version[1]} kustomize: {', '.join(rendered)}"


def kubectl_version():
    """`(major, minor)` of the client on PATH, None without one."""
    if not shutil.which("kubectl"):
        return None
    try:
        run = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=30)
        git_version = json.loads(run.stdout)["clientVersion"]["gitVersion"]
        major, minor = git_version.lstrip("v").split(".")[:2]
        return int(major), int(minor)
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None


def kustomize(folder):
    """The objects of one kustomization, as kubectl renders them."""
    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    if run.returncode != 0 or run.stderr.strip():
        raise Failed(f"kubectl kustomize {folder}: {run.stderr.strip()}")
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def plain(folder):
    """The base put together by hand: its resources and the generated ConfigMaps. Any other feature of Kustomize is refused."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(kustomization) - {"apiVersion", "kind", "resources", "configMapGenerator"}
    if unknown:
        raise Failed(f"the plain reading does not know {', '.join(sorted(unknown))} in kustomization.yaml")
    objects = []
    for name in kustomization["resources"]:
        objects += [document for document in yaml.safe_load_all((folder / name).read_text()) if document]
    for generator in kustomization.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in generator["files"]}
        # Another hash than Kustomize's, for the same purpose.
        hashed = f"{generator['name']}-{hashlib.sha256(json.dumps(data).encode()).hexdigest()[:10]}"
        metadata = {"name": hashed, "labels": generator.get("options", {}).get("labels", {})}
        for reference in config_map_references(objects):
            if reference["name"] == generator["name"]:
                reference["name"] = hashed
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return objects


def config_map_references(objects):
    """The places in pod templates that name a ConfigMap."""
    for item in objects:
        for volume in item.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
            if "configMap" in volume:
                yield volume["configMap"]
