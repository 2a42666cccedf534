"""Reads durations, sizes and quantities as slotway.toml and Kubernetes write them. A value that is none raises ValueError."""

import re

try:
    import tomllib
except ImportError:
    import tomli as tomllib

# The units of src/config/value.rs.
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}
_BYTES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_QUANTITY = {"": 1, "m": 0.001, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def _read(text, units):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(text))
    if not match or match[2] not in units:
        raise ValueError(f"cannot read {text!r}")
    return float(match[1]) * units[match[2]]


def seconds(text):
    """"25s" as 25.0."""
    return _read(text, _SECONDS)


def size(text):
    """"32MiB" of slotway.toml in bytes."""
    return _read(text, _BYTES)


def quantity(text):
    """"500m" or "1Gi" of Kubernetes in cores or bytes."""
    return _read(text, _QUANTITY)


def toml(text):
    """A TOML document as a dict."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from error
