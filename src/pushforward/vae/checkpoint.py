"""Where a training of a VAE stands, in a file."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.serialization import PACKAGES, load
from pushforward.vae.model import VAE


class History(eqx.Module):
    """What happened, epoch by epoch, in nats for an image."""

    loss: list[float]
    reconstruction: list[float]
    kl: list[float]
    validation_elbo: list[float]
    beta: list[float]
    gradient_norm: list[float]
    skipped: list[int]
    seconds: list[float]


class State(eqx.Module):
    """Where a training stands, all of it: it can be saved, and continued to the bit."""

    vae: VAE
    optimizer_state: Any
    best: VAE
    best_elbo: Float[Array, ""]
    epoch: Int[Array, ""]
    waited: Int[Array, ""]
    key: PRNGKeyArray


def digest(x: np.ndarray) -> str:
    """What tells an array from another."""
    return hashlib.sha256(str(x.shape).encode() + x.tobytes()).hexdigest()


def resume(path: Path, start: State, facts: dict[str, Any]) -> tuple[State, History]:
    """What a checkpoint holds, if it is one of this training.

    Args:
        path: a file that holds a state, a history and facts.
        start: the state at the beginning of this training.
        facts: what the checkpoint must have in common with this training, apart from the state's structure and the key.

    Raises:
        ValueError: if it holds anything else; the message says what differs.
    """
    # Classes that the caller has brought along are the caller's own code: the file may name them.
    saved = load(path, trusted=sorted(_foreign(start)))
    if not (isinstance(saved, tuple) and len(saved) == 3 and isinstance(saved[0], State)):
        raise ValueError(f"{path} holds no training of a VAE that can be continued; give another checkpoint.")
    state, history, before = saved
    same = {
        "VAE": _alike(state.vae, start.vae),
        "optimiser": _alike(state.optimizer_state, start.optimizer_state),
        "key": jnp.array_equal(jr.key_data(state.key), jr.key_data(start.key)),
    }
    for name, value in facts.items():
        same[name] = same.get(name, True) and before.get(name) == value
    if differ := [name for name, equal in same.items() if not equal]:
        raise ValueError(
            f"{path} is the checkpoint of another training, which differs in: {', '.join(differ)}. Give another file, "
            "or remove it to begin anew."
        )
    return state, history


def _alike(a: Any, b: Any) -> bool:
    """Whether trees have one structure, and arrays of the same shapes and dtypes."""

    def kind(leaf):
        # By dtypes as JAX has them: constants may be NumPy's.
        return (leaf.shape, str(leaf.dtype)) if hasattr(leaf, "dtype") else leaf

    def kinds(tree):
        return jax.tree.map(kind, eqx.filter_eval_shape(lambda t: t, tree))

    return jax.tree.structure(a) == jax.tree.structure(b) and bool(eqx.tree_equal(kinds(a), kinds(b)))


def _foreign(x: Any) -> set[str]:
    """The packages, other than those that `load` knows, of the classes and functions in a tree."""
    if eqx.is_array_like(x) or x is None:
        return set()
    module = getattr(x, "__module__", None)
    known = not isinstance(module, str) or any(f"{module}.".startswith(f"{package}.") for package in PACKAGES)
    own = set() if known else {str(module).split(".")[0]}
    if isinstance(x, dict):
        parts = list(x.values())
    elif isinstance(x, (list, tuple)):
        parts = list(x)
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        parts = [getattr(x, field.name, None) for field in dataclasses.fields(x)]
    else:
        parts = []
    return own.union(*map(_foreign, parts))
