"""Rules about the pod: ports, probes, volumes, security, resources, the way it stops, and the configuration it reads."""

from pathlib import PurePosixPath

from checks import units
from checks.view import CONFIG_FILE

PORTS = {"redis": 6379, "metrics": 9145}
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
# Seconds left after preStop and drain for the process to end by itself.
SPARE = 5
# Share of the memory limit slotway takes as its ceiling when max-memory is 0.
DEFAULT_CEILING = 0.75
# Default of bulk-bytes-max: a value of that size has to fit under the ceiling.
DEFAULT_BULK = "512MiB"


def ports(view):
    declared = {port["name"]: port["containerPort"] for port in view.container["ports"]}
    if declared != PORTS or len(view.container["ports"]) != len(PORTS):
        yield f"container ports {declared}, expected {PORTS}"
    for key, name in (("listen", "redis"), ("admin-listen", "metrics")):
        address = view.config.get(key, "")
        if address.rpartition(":")[2] != str(view.container_port(name)):
            yield f"{key} = {address!r} is not container port {name}"
        if address.startswith(("127.", "localhost", "[::1]")):
            yield f"{key} = {address!r} cannot be reached from outside the pod"


def probes(view):
    for probe, path in PROBES.items():
        expected = {"path": path, "port": "metrics"}
        if view.container[probe].get("httpGet") != expected:
            yield f"{probe} asks {view.container[probe].get('httpGet')}, expected {expected}"
        if view.container[probe]["timeoutSeconds"] > view.container[probe]["periodSeconds"]:
            yield f"{probe}: timeout longer than the period"
    startup, liveness = view.container["startupProbe"], view.container["livenessProbe"]
    if startup["periodSeconds"] * startup["failureThreshold"] < 20:
        yield "startupProbe gives up within 20 s"
    if liveness["periodSeconds"] * liveness["failureThreshold"] < 20:
        yield "livenessProbe restarts within 20 s"


def volumes(view):
    if set(view.mounts) != set(view.volumes):
        yield f"mounted {sorted(view.mounts)}, declared {sorted(view.volumes)}"
    for name, mount in view.mounts.items():
        if "subPath" in mount or "subPathExpr" in mount:
            yield f"{name}: a subPath mount never sees an update"
        if mount.get("readOnly") is not True:
            yield f"{name}: not mounted read-only"
    for name, volume in view.volumes.items():
        if set(volume) - {"name"} not in ({"configMap"}, {"secret"}):
            yield f"{name}: only ConfigMap and Secret volumes are expected"
    if view.volumes["config"]["configMap"]["name"] != view.config_map["metadata"]["name"]:
        yield "volume config names another ConfigMap than the rendered one"
    secret = view.volumes["auth"]["secret"]
    if secret.get("defaultMode") != 0o440 or not secret.get("secretName"):
        yield "volume auth: needs a secretName, and mode 0440 for the group of the pod"
    file = str(PurePosixPath(view.mounts["config"]["mountPath"]) / CONFIG_FILE)
    if view.container.get("args") != ["serve", "--config", file] or "command" in view.container:
        yield f"args {view.container.get('args')} do not serve with {file}"


def secrets(view):
    """Passwords come as files of the secret; none is written down anywhere else."""
    secret, folder = view.volumes["auth"]["secret"], PurePosixPath(view.mounts["auth"]["mountPath"])
    if any(item.get("kind") == "Secret" for item in view.objects):
        yield "a Secret is rendered: passwords do not belong into the repository"
    for entry in view.container.get("env", []):
        if "PASSWORD" in entry["name"]:
            yield f"env {entry['name']}: use a file"
    files = [item["path"] for item in secret.get("items", [])]
    for key, value in view.config.items():
        if key.endswith("password"):
            yield f"{key}: a password in a ConfigMap"
        if key.endswith("password-file"):
            if PurePosixPath(value).parent != folder:
                yield f"{key} = {value!r} is not in {folder}"
            if secret.get("items") and PurePosixPath(value).name not in files:
                yield f"{key} = {value!r}: the secret volume has only {files}"
            if secret.get("optional"):
                yield f"{key} is set, but the secret is optional: the pod would start without it"


def security(view):
    """Pod Security Standard `restricted`, plus a root file system that cannot be written to."""
    context = view.pod["securityContext"]
    expected = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    expected["seccompProfile"] = {"type": "RuntimeDefault"}
    for key, value in expected.items():
        if context.get(key) != value:
            yield f"pod securityContext.{key} is {context.get(key)!r}, expected {value!r}"
    own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "privileged": False, "capabilities": {"drop": ["ALL"]}}
    if view.container["securityContext"] != own:
        yield f"container securityContext is {view.container['securityContext']}, expected {own}"
    for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        if view.pod.get(key):
            yield f"{key} is set"


def identity(view):
    name = view.account["metadata"]["name"]
    if view.pod.get("serviceAccountName") != name:
        yield f"serviceAccountName is not {name}"
    if view.account.get("automountServiceAccountToken") is not False or view.pod.get("automountServiceAccountToken") is not False:
        yield "a ServiceAccount token is mounted"
    if view.pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false: Kubernetes would inject SLOTWAY_* variables"


def image(view):
    reference = view.container["image"]
    _, _, tag = reference.rpartition("/")[2].partition(":")
    if "@sha256:" not in reference and tag in ("", "latest"):
        yield f"image {reference!r} has no fixed tag or digest"
    if view.container.get("imagePullPolicy") not in ("IfNotPresent", "Always"):
        yield f"imagePullPolicy {view.container.get('imagePullPolicy')!r}"


def resources(view):
    requests, limits = view.container["resources"]["requests"], view.container["resources"]["limits"]
    units.quantity(requests["cpu"])
    limit = units.quantity(limits["memory"])
    if "cpu" in limits:
        yield "a CPU limit throttles and ruins the tail latency"
    if units.quantity(requests["memory"]) > limit:
        yield "memory request above the limit"
    ceiling = units.size(view.config.get("max-memory", 0)) or limit * DEFAULT_CEILING
    if ceiling > limit * 0.9:
        yield "max-memory leaves less than 10 % of the memory limit: the kernel would end the pod before slotway refuses work"
    if ceiling < units.size(view.config.get("bulk-bytes-max", DEFAULT_BULK)):
        yield "a value of bulk-bytes-max does not fit under the memory ceiling"
    if not isinstance(view.config.get("workers"), int) or view.config["workers"] < 1:
        yield "workers must be set: without a CPU limit its default is every CPU of the machine"


def termination(view):
    """The arithmetic of the stop and of the pod's grace period."""
    pre_stop = view.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    accept, drain = (units.seconds(view.config[key]) for key in ("drain-accept-grace", "drain-timeout"))
    needed = pre_stop + accept + drain + SPARE
    if view.pod["terminationGracePeriodSeconds"] < needed:
        yield (
            f"terminationGracePeriodSeconds {view.pod['terminationGracePeriodSeconds']} < {needed:g}"
            f" (preStop {pre_stop} + accept {accept:g} + drain {drain:g} + {SPARE})"
        )
    readiness = view.container["readinessProbe"]
    if pre_stop < 5:
        yield f"preStop sleeps {pre_stop} s: endpoints need about 5 s to be withdrawn everywhere"
    if readiness["periodSeconds"] * readiness["failureThreshold"] > 10:
        yield "readinessProbe takes more than 10 s to notice"


RULES = [ports, probes, volumes, secrets, security, identity, image, resources, termination]
