"""What made a result: the call, the key, and the versions of the libraries."""

import dataclasses
import platform
from importlib.metadata import version
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

LIBRARIES = ("pushforward", "jax", "equinox", "numpyro", "optax", "numpy")
T = TypeVar("T")
Facts = tuple[tuple[str, Any], ...]


def provenance(call: str, key: PRNGKeyArray, **settings: Any) -> Facts:
    """The facts on a fit that a reader needs to repeat it, as names and texts.

    Args:
        call: the call, with "{key}" in the position of the key.
        key: the key of the fit.
        **settings: further settings, by name.
    """
    device = jax.devices()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        ("call", call.replace("{key}", key_text(key))),
        *((name.replace("_", " "), str(value)) for name, value in settings.items()),
        ("random key", key_text(key)),
        ("precision", str(jax.numpy.result_type(float))),
        ("device", f"{len(jax.devices())} × {device.device_kind}"),
        ("versions", f"{libraries}, Python {platform.python_version()}"),
    )


def with_command(result: T, command: str) -> T:
    """A result with the command that made it, for its report.

    Args:
        result: a result with a field `provenance`.
        command: the command.
    """
    facts: Any = result
    return dataclasses.replace(facts, provenance=(*facts.provenance, ("command", command)))


def command_of(facts: Facts) -> str:
    """The command that made a result; empty if it was made in Python.

    Args:
        facts: the facts.
    """
    return dict(facts).get("command", "")


def key_text(key: PRNGKeyArray) -> str:
    """The expression that makes a key.

    Args:
        key: a key, new or old style.
    """
    data, kind = np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
    if kind == "threefry2x32" and data[0] == 0:
        return f"jax.random.key({data[1]})"
    return f"jax.random.wrap_key_data(jax.numpy.array({data.tolist()}, 'uint32'), impl={kind!r})"
