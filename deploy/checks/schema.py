"""Validates objects against the published Kubernetes schemas, strictly: unknown fields and unknown kinds are failures."""

import kubernetes_validate

# The oldest release with `preStop.sleep` on by default, one in between, and the newest the validator carries.
VERSIONS = ["1.30", "1.33", "1.37"]


def check(objects):
    """What the schemas object to."""
    failures = []
    for version in VERSIONS:
        for item in objects:
            name = f"{item.get('kind')}/{item.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                failures.append(f"{version}: {name}: {where or 'top level'}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                failures.append(f"{version}: {name}: no schema for {item.get('apiVersion')} {item.get('kind')}")
            except kubernetes_validate.InvalidSchemaError as error:
                failures.append(f"{version}: {name}: unusable schema: {error}")
    return failures
