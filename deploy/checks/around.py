"""Rules about what stands around the pod: names, selectors, Services, roll-out, scaling, disruption, and the way to Redis."""

import re
from ipaddress import ip_address

from checks import units

EXPECTED_KINDS = {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "ServiceAccount"}
SPREAD_KEYS = {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
# What a Redis node lets in unless told otherwise, and what replicas, people and monitoring may need of it.
REDIS_MAXCLIENTS = 10000
REDIS_OTHERS = 500
RESP_VERSIONS = 2


def kinds(view):
    found = {item["kind"] for item in view.objects}
    if found != EXPECTED_KINDS or len(view.services) != 2:
        yield f"kinds {sorted(found)} with {len(view.services)} Services, expected {sorted(EXPECTED_KINDS)} with 2"


def names(view):
    for item in view.objects:
        name = item["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield f"{item['kind']}/{name}: not a DNS label"
        labels = item["metadata"].get("labels", {})
        if any(labels.get(key) != value for key, value in view.selector().items()):
            yield f"{item['kind']}/{name}: not labelled like the rest"
    namespaces = {item["metadata"].get("namespace") for item in view.objects}
    if len(namespaces) != 1:
        yield f"spread over the namespaces {namespaces}"


def selectors(view):
    """Equal everywhere. A selector that matches nothing is accepted by Kubernetes in silence."""
    labels, expected = view.template["metadata"]["labels"], view.selector()
    if not expected or any(labels.get(key) != value for key, value in expected.items()):
        yield f"the Deployment selects {expected}, its pods carry {labels}"
    found = {f"Service/{item['metadata']['name']}": item["spec"]["selector"] for item in view.services}
    found["PodDisruptionBudget"] = view.budget["spec"]["selector"]["matchLabels"]
    for constraint in view.pod["topologySpreadConstraints"]:
        found[f"spread over {constraint['topologyKey']}"] = constraint["labelSelector"]["matchLabels"]
    for where, selector in found.items():
        if selector != expected:
            yield f"{where} selects {selector}, the Deployment {expected}"


def services(view):
    targets = {"redis": 6379, "metrics": 9145}
    for service, expected in ((view.client(), ["redis"]), (view.headless(), ["redis", "metrics"])):
        name, spec = service["metadata"]["name"], service["spec"]
        if [port["targetPort"] for port in spec["ports"]] != expected:
            yield f"{name}: target ports {[port['targetPort'] for port in spec['ports']]}, expected {expected}"
        for port in spec["ports"]:
            if view.container_port(port["targetPort"]) != port["port"] or targets[port["targetPort"]] != port["port"]:
                yield f"{name}: port {port['port']} does not lead to itself"
        if spec.get("publishNotReadyAddresses"):
            yield f"{name}: sends clients to pods that are not ready"
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("sessionAffinity", "None") != "None":
            yield f"{name}: must be a ClusterIP without session affinity"


def rollout(view):
    spec = view.deployment["spec"]
    if "replicas" in spec:
        yield "replicas is set: every apply would undo what the autoscaler did"
    rolling = spec["strategy"]["rollingUpdate"]
    if spec["strategy"]["type"] != "RollingUpdate" or rolling["maxUnavailable"] != 0 or not rolling["maxSurge"]:
        yield "a roll-out must add before it takes away (maxUnavailable 0, maxSurge above 0)"
    if not spec.get("minReadySeconds"):
        yield "minReadySeconds is not set"
    if view.pod.get("restartPolicy", "Always") != "Always":
        yield "restartPolicy is not Always"


def spread(view):
    constraints = view.pod["topologySpreadConstraints"]
    if len(constraints) != 2 or {constraint["topologyKey"] for constraint in constraints} != SPREAD_KEYS:
        yield f"expected one constraint for each of {sorted(SPREAD_KEYS)}"
    for constraint in constraints:
        if constraint["whenUnsatisfiable"] != "ScheduleAnyway" or constraint.get("matchLabelKeys") != ["pod-template-hash"]:
            yield f"{constraint['topologyKey']}: must be ScheduleAnyway per pod-template-hash"


def autoscaler(view):
    spec, deployment = view.autoscaler["spec"], view.deployment
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]}
    if spec["scaleTargetRef"] != target:
        yield f"scales {spec['scaleTargetRef']}, expected {target}"
    if not 2 <= spec["minReplicas"] <= spec["maxReplicas"]:
        yield f"replicas {spec['minReplicas']} to {spec['maxReplicas']}"
    (metric,) = [metric["resource"] for metric in spec["metrics"] if metric["type"] == "Resource"]
    if metric["name"] != "cpu" or metric["target"]["type"] != "Utilization":
        yield "does not follow CPU utilization"
    threshold = units.quantity(view.container["resources"]["requests"]["cpu"]) * metric["target"]["averageUtilization"] / 100
    if threshold > 0.8 * view.config["workers"]:
        yield f"scales at {threshold:g} cores a pod, more than 80 % of what {view.config['workers']} workers can use"
    if spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] != 0:
        yield "waits before scaling up"
    down = spec["behavior"]["scaleDown"]
    if down["stabilizationWindowSeconds"] < 300 or down["policies"] != [{"type": "Pods", "value": 1, "periodSeconds": 60}]:
        yield "must scale down by one pod a minute after 300 s"


def disruption(view):
    spec = view.budget["spec"]
    if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
        yield "must allow exactly one pod to be missing (maxUnavailable 1, no minAvailable)"
    if view.autoscaler["spec"]["minReplicas"] < 2:
        yield "with one replica the budget protects nothing"
    if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "a pod that is not ready could hold up a drain"


def seeds(view):
    found = view.config.get("seeds", [])
    if not found:
        yield "no seeds"
    own = {service["metadata"]["name"] for service in view.services}
    for seed in found:
        host, _, port = seed.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            yield f"{seed!r} is not HOST:PORT"
        elif is_address(host):
            yield f"{seed!r}: pods change their addresses, name the headless Service"
        elif "." in host and not host.endswith("."):
            yield f"{seed!r}: end a full name with a dot, or each look-up tries the search domains first"
        elif host in own:
            yield f"{seed!r} is slotway itself"


def is_address(host):
    """Whether it is an IPv4 or IPv6 address and not a name."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def connections(view):
    """What one Redis node sees at most: from every pod, draining ones too, a lane per worker and RESP version, and a control connection."""
    surge = view.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    most = view.autoscaler["spec"]["maxReplicas"]
    surge = -(-most * int(surge[:-1]) // 100) if isinstance(surge, str) else surge
    per_pod = view.config["workers"] * RESP_VERSIONS + 1
    total = 2 * (most + surge) * per_pod
    if total > REDIS_MAXCLIENTS - REDIS_OTHERS:
        yield f"up to {total} connections to each Redis node: too many for maxclients {REDIS_MAXCLIENTS}"


RULES = [kinds, names, selectors, services, rollout, spread, autoscaler, disruption, seeds, connections]
