"""Breaks the rendered base and the Dockerfile on purpose, one mistake at a time: each must be caught, by the check meant for it."""

import copy

from checks import dockerfile, rules, schema


def change(kind, path, value=None):
    """A mistake: the field at that path of the first object of that kind replaced, or removed for None."""

    def apply(objects):
        place = next(item for item in objects if item["kind"] == kind)
        *folders, last = path
        for step in folders:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return apply


def config(before, after):
    """A mistake in slotway.toml."""

    def apply(objects):
        data = next(item for item in objects if item["kind"] == "ConfigMap")["data"]
        if before not in data["slotway.toml"]:
            raise KeyError(before)
        data["slotway.toml"] = data["slotway.toml"].replace(before, after)

    return apply


POD = ("spec", "template", "spec")
BOX = (*POD, "containers", 0)
NAME = "app.kubernetes.io/name"

# (what is wrong, the check that must say so, the mistake)
OBJECTS = [
    ("unknown field", "schema", change("Deployment", (*POD, "nodeSelectr"), {"a": "b"})),
    ("unknown kind", "schema", change("PodDisruptionBudget", ("kind",), "PodDisruptionBudge")),
    ("missing required field", "schema", change("HorizontalPodAutoscaler", ("spec", "maxReplicas"))),
    ("Service selects other labels", "selectors", change("Service", ("spec", "selector", NAME), "redis")),
    ("pod label changed", "selectors", change("Deployment", ("spec", "template", "metadata", "labels", NAME), "proxy")),
    ("budget selects other labels", "selectors", change("PodDisruptionBudget", ("spec", "selector", "matchLabels", NAME), "x")),
    (
        "spread over nothing",
        "selectors",
        change("Deployment", (*POD, "topologySpreadConstraints", 0, "labelSelector", "matchLabels", NAME), "x"),
    ),
    ("Service leads to no port", "services", change("Service", ("spec", "ports", 0, "targetPort"), "resp")),
    ("metrics port renamed", "ports", change("Deployment", (*BOX, "ports", 1, "name"), "admin")),
    ("admin-listen on another port", "ports", config("0.0.0.0:9145", "0.0.0.0:9146")),
    ("probe on the data port", "probes", change("Deployment", (*BOX, "livenessProbe", "httpGet", "port"), "redis")),
    ("startup waits for Redis", "probes", change("Deployment", (*BOX, "startupProbe", "httpGet", "path"), "/readyz")),
    ("probe without handler", "probes", change("Deployment", (*BOX, "readinessProbe", "httpGet"))),
    ("writable root file system", "security", change("Deployment", (*BOX, "securityContext", "readOnlyRootFilesystem"))),
    ("no seccomp profile", "security", change("Deployment", (*POD, "securityContext", "seccompProfile"))),
    ("token mounted", "identity", change("ServiceAccount", ("automountServiceAccountToken",), True)),
    ("service links", "identity", change("Deployment", (*POD, "enableServiceLinks"))),
    ("mount without volume", "volumes", change("Deployment", (*BOX, "volumeMounts", 1, "name"), "secrets")),
    ("subPath mount", "volumes", change("Deployment", (*BOX, "volumeMounts", 0, "subPath"), "slotway.toml")),
    ("another ConfigMap", "volumes", change("Deployment", (*POD, "volumes", 0, "configMap", "name"), "slotway-config")),
    ("password in the ConfigMap", "secrets", config("workers = 2", 'workers = 2\nupstream-password = "x"')),
    ("password file nowhere mounted", "secrets", config("workers = 2", 'workers = 2\nupstream-password-file = "/run/x"')),
    ("CPU limit", "resources", change("Deployment", (*BOX, "resources", "limits", "cpu"), "1")),
    ("no CPU request", "resources", change("Deployment", (*BOX, "resources", "requests", "cpu"))),
    ("bad quantity", "resources", change("Deployment", (*BOX, "resources", "limits", "memory"), "1GiBs")),
    ("ceiling above the limit", "resources", config("workers = 2", 'workers = 2\nmax-memory = "1GiB"')),
    ("grace too short", "termination", change("Deployment", (*POD, "terminationGracePeriodSeconds"), 36)),
    ("longer drain than grace", "termination", config('"25s"', '"1m"')),
    ("fixed replicas", "rollout", change("Deployment", ("spec", "replicas"), 3)),
    ("autoscaler on another kind", "autoscaler", change("HorizontalPodAutoscaler", ("spec", "scaleTargetRef", "kind"), "StatefulSet")),
    ("min above max", "autoscaler", change("HorizontalPodAutoscaler", ("spec", "minReplicas"), 11)),
    ("budget with both bounds", "disruption", change("PodDisruptionBudget", ("spec", "minAvailable"), 1)),
    ("floating image tag", "image", change("Deployment", (*BOX, "image"), "slotway:latest")),
    ("seed is slotway", "seeds", config("redis-headless:6379", "slotway-headless:6379")),
    ("too many connections", "connections", config("workers = 2", "workers = 400")),
]

# (what is wrong, part of what must be said about it, text in the Dockerfile, what it becomes)
DOCKERFILE = [
    ("root", "USER root", "USER 65532:65532", "USER root"),
    ("user by name", "USER nonroot", "USER 65532:65532", "USER nonroot:nonroot"),
    ("shell form", "ENTRYPOINT", 'ENTRYPOINT ["/usr/local/bin/slotway"]', "ENTRYPOINT /usr/local/bin/slotway"),
    ("dependencies not locked", "--locked", "--locked ", ""),
    ("admin port not exposed", "EXPOSE", "EXPOSE 6379 9145", "EXPOSE 6379"),
    ("image not an argument", "not an ARG", "FROM ${RUNTIME_IMAGE}", "FROM debian:bookworm-slim"),
    ("registry host in a default", "registry host", "RUNTIME_IMAGE=debian", "RUNTIME_IMAGE=registry.example/debian"),
    ("old compiler", "rust-version", "BUILD_IMAGE=rust:1.", "BUILD_IMAGE=rust:1.1."),
    ("sources kept out", "COPY source", "COPY src ./src", "COPY source ./src"),
    ("label missing", "image.revision", "org.opencontainers.image.revision", "revision"),
]


def self_test(root, objects):
    """`(mistakes nobody noticed, number of mistakes)`. What is unbroken must pass, or noticing would mean nothing."""
    missed = [f"already wrong before any mistake: [{rule}] {text}" for rule, text in rules.check(objects)]
    for name, expected, mistake in OBJECTS:
        broken = copy.deepcopy(objects)
        mistake(broken)
        caught = schema.check(broken) if expected == "schema" else [text for rule, text in rules.check(broken) if rule == expected]
        if not caught:
            missed.append(f"{name}: not noticed by {expected}")
    text, ignored = (root / "deploy" / "Dockerfile").read_text(), (root / ".dockerignore").read_text()
    facts = (dockerfile.embedded_files(root), dockerfile.rust_version(root))
    for name, expected, before, after in DOCKERFILE:
        found = dockerfile.check_text(text.replace(before, after), ignored, *facts)
        if before not in text or not any(expected in failure for failure in found):
            missed.append(f"Dockerfile, {name}: not noticed")
    return missed, len(OBJECTS) + len(DOCKERFILE)
