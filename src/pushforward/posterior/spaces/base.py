"""The interface of a model's space of draws, and the one for pytrees with NumPyro constraints."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Draw = PyTree
Unconstrained = PyTree


class Labels(NamedTuple):
    """What ArviZ calls the axes of draws: values along named dimensions, and for each variable the names."""

    coords: dict[str, list]
    dims: dict[str, list[str]]


class AbstractSpace(eqx.Module):
    """What a model's draws look like, how they come from unconstrained numbers, and their density."""

    @abc.abstractmethod
    def log_density(self, z: Unconstrained) -> Float[Array, ""]:
        """The log-density of z up to a constant, the volume element of `constrain` included."""

    @abc.abstractmethod
    def constrain(self, z: Unconstrained) -> Draw:
        """The draw that z stands for."""

    @abc.abstractmethod
    def unconstrain(self, draw: Draw) -> Unconstrained:
        """The z that stands for a draw."""

    @abc.abstractmethod
    def log_volume(self, z: Unconstrained) -> Float[Array, ""]:
        r"""$\log|\det|$ of the Jacobian of `constrain`, the draw in its own free coordinates."""

    @abc.abstractmethod
    def detached(self) -> "AbstractSpace":
        """The space without its density: it constrains all the same, and needs none of the user's code."""

    def labels(self) -> Labels:
        """Names of the axes of draws, as far as the model gives them."""
        return Labels({}, {})

    def predict(self, draws: Draw, key: PRNGKeyArray) -> dict[str, dict[str, Array]]:
        """Further groups for ArviZ, where the model can tell them, from draws with leading axes (1, draws).

        "log_likelihood", "posterior_predictive" and "observed_data".
        """
        return {}


class SupportSpace(AbstractSpace):
    """Pytrees whose leaves lie in NumPyro constraints.

    Args:
        density: maps a draw to its log-density; None if it was left behind on saving.
        support: constraints, in a pytree of the draw's structure.
    """

    density: Callable[[Draw], Float[Array, ""]] | None
    support: list[dist.constraints.Constraint]
    structure: Any = eqx.field(static=True)

    def __init__(self, density: Callable | None, support: PyTree, example: Draw):
        self.density = density
        self.structure = jax.tree.structure(example)
        self.support = match_support(support, example)

    def _each(self, fn: Callable, tree: PyTree) -> list:
        leaves = jax.tree.leaves(tree)
        return [fn(dist.biject_to(c), leaf) for c, leaf in zip(self.support, leaves, strict=True)]

    def log_density(self, z):
        if self.density is None:
            raise ValueError("this posterior was loaded from a file, which does not hold the density of the model.")
        return self.density(self.constrain(z)) + self.log_volume(z)

    def constrain(self, z):
        return jax.tree.unflatten(self.structure, self._each(lambda t, leaf: t(leaf), z))

    def unconstrain(self, draw):
        return jax.tree.unflatten(self.structure, self._each(lambda t, leaf: t.inv(leaf), draw))

    def log_volume(self, z):
        return sum(self._each(lambda t, leaf: jnp.sum(t.log_abs_det_jacobian(leaf, t(leaf))), z), jnp.zeros(()))

    def detached(self):
        return eqx.tree_at(lambda s: s.density, self, None, is_leaf=lambda leaf: leaf is None or callable(leaf))


def match_support(support: PyTree, example: Draw) -> list[dist.constraints.Constraint]:
    """One constraint for each leaf of the example; a constraint may stand for a whole subtree, None for real."""

    def is_leaf(node):
        return node is None or isinstance(node, dist.constraints.Constraint)

    try:
        spread = jax.tree.map(
            lambda c, part: [c or dist.constraints.real] * len(jax.tree.leaves(part)), support, example, is_leaf=is_leaf
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"support must be a pytree of NumPyro constraints that matches the example; the example's structure is "
            f"{jax.tree.structure(example)}, the support's {jax.tree.structure(support, is_leaf=is_leaf)}."
        ) from error
    flat = jax.tree.leaves(spread, is_leaf=is_leaf)
    for constraint in flat:
        if not isinstance(constraint, dist.constraints.Constraint):
            raise ValueError(f"support must hold NumPyro constraints, but holds {constraint!r}.")
        if constraint.is_discrete:
            raise ValueError(f"a flow draws real numbers, so the support must be continuous, but holds {constraint!r}.")
    return flat
