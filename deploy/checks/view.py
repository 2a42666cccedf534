"""The rendered objects by role, so that the rules read like sentences."""

from checks import units

CONFIG_FILE = "slotway.toml"


class Unreadable(Exception):
    """An object every rule relies on is missing, there twice, or has no readable content."""


class View:
    """Names for the objects and their parts that more than one rule looks at."""

    def __init__(self, objects):
        self.objects = objects
        self.deployment = self.only("Deployment")
        self.autoscaler = self.only("HorizontalPodAutoscaler")
        self.budget = self.only("PodDisruptionBudget")
        self.account = self.only("ServiceAccount")
        self.config_map = self.only("ConfigMap")
        self.services = [item for item in objects if item.get("kind") == "Service"]
        try:
            self.template = self.deployment["spec"]["template"]
            self.pod = self.template["spec"]
            (self.container,) = self.pod["containers"]
            self.config = units.toml(self.config_map["data"][CONFIG_FILE])
            self.mounts = {mount["name"]: mount for mount in self.container["volumeMounts"]}
            self.volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        except (KeyError, TypeError, ValueError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def only(self, kind):
        """The one object of that kind."""
        found = [item for item in self.objects if item.get("kind") == kind]
        if len(found) != 1:
            raise Unreadable(f"{len(found)} objects of kind {kind}, expected one")
        return found[0]

    def selector(self):
        """The labels the Deployment knows its pods by; everyone else must use exactly these."""
        return self.deployment["spec"]["selector"]["matchLabels"]

    def container_port(self, name):
        """The number behind a port name of the container."""
        (number,) = [port["containerPort"] for port in self.container["ports"] if port["name"] == name]
        return number

    def headless(self):
        """The Service whose name resolves to the pods."""
        (service,) = [item for item in self.services if item["spec"].get("clusterIP") == "None"]
        return service

    def client(self):
        """The Service applications connect to."""
        (service,) = [item for item in self.services if item["spec"].get("clusterIP") != "None"]
        return service
