"""The interface of a model's space of draws, and the space of pytrees with NumPyro constraints."""

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
    """ArviZ's labels of the axes of draws.

    Attributes:
        coords: the values along each named dimension.
        dims: the names of the dimensions of each variable.
    """

    coords: dict[str, list]
    dims: dict[str, list[str]]


class UnavailablePrediction(Exception):
    """A model does not have some kind of prediction."""


class AbstractSpace(eqx.Module):
    """The draws of a model, the transform from unconstrained values to draws, and their density."""

    @abc.abstractmethod
    def log_density(self, z: Unconstrained) -> Float[Array, ""]:
        """The log-density of z up to a constant, including the log-volume of `constrain`.

        Args:
            z: unconstrained values.
        """

    @abc.abstractmethod
    def constrain(self, z: Unconstrained) -> Draw:
        """The draw at z.

        Args:
            z: unconstrained values.
        """

    @abc.abstractmethod
    def unconstrain(self, draw: Draw) -> Unconstrained:
        """The unconstrained values of a draw, the inverse of `constrain`.

        Args:
            draw: a draw.
        """

    def latent(self, draw: Draw) -> Draw:
        """The part of a draw that `unconstrain` reads: without the deterministic sites of a model, for example.

        Args:
            draw: a draw.
        """
        return draw

    @abc.abstractmethod
    def log_volume(self, z: Unconstrained) -> Float[Array, ""]:
        r"""$\log|\det|$ of the Jacobian of `constrain`, from z to the free coordinates of the draw.

        Args:
            z: unconstrained values.
        """

    @abc.abstractmethod
    def detached(self) -> "AbstractSpace":
        """The space without its density: it can still constrain, and holds no code of the user."""

    @property
    def description(self) -> str:
        """What the density is, for reports."""
        return "a log-density"

    @property
    def data(self) -> PyTree:
        """The data set of a `ConditionalTarget`, in the density or in the arguments of the model."""
        raise NotImplementedError(f"{type(self).__name__} has no data set that can be replaced.")

    def with_data(self, data: PyTree) -> "AbstractSpace":
        """The space with another data set.

        Args:
            data: the data set, of the same structure and shapes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no data set that can be replaced.")

    def labels(self) -> Labels:
        """The names of the axes of draws, if the model has names."""
        return Labels({}, {})

    def observed(self) -> dict[str, Array]:
        """The observations, if the model has any."""
        return {}

    def pointwise_log_likelihood(self, draw: Draw) -> dict[str, Array]:
        """The log-likelihood of each observation.

        Args:
            draw: a draw.

        Raises:
            UnavailablePrediction: if there is none.
        """
        raise UnavailablePrediction("no pointwise log-likelihoods: the target has no observations, only a density.")

    def replicate(self, draw: Draw, key: PRNGKeyArray) -> dict[str, Array]:
        """Observations drawn from the model.

        Args:
            draw: a draw.
            key: the key.

        Raises:
            UnavailablePrediction: if the model cannot draw them.
        """
        raise UnavailablePrediction("no posterior predictive: the target has no observations, only a density.")

    def discrete_draws(self, draw: Draw, key: PRNGKeyArray) -> dict[str, Array]:
        """Values of the discrete sites that the density sums out, drawn from their distribution given the draw.

        Args:
            draw: a draw.
            key: the key; `replicate` with the same key uses the same values.
        """
        return {}


class SupportSpace(AbstractSpace):
    """Pytrees whose leaves lie in NumPyro constraints.

    Args:
        density: the function from a draw to its log-density, with an attribute `data` in a `ConditionalTarget`; None in
            a posterior from a file.
        support: the constraints, in a pytree with the draw's structure or a prefix of it.
        example: a draw, for the structure.
    """

    density: Any  # a function, or None
    support: list[dist.constraints.Constraint]
    structure: Any = eqx.field(static=True)

    def __init__(self, density: Callable | None, support: PyTree, example: Draw):
        self.density = density
        self.structure = jax.tree.structure(example)
        self.support = match_support(support, example)

    @property
    def data(self):
        return self.density.data

    def with_data(self, data):
        return eqx.tree_at(lambda s: s.density.data, self, data)

    def _map(self, fn: Callable, tree: PyTree) -> list:
        """The results of fn(transform, leaf) over all leaves."""
        leaves = jax.tree.leaves(tree)
        return [fn(dist.biject_to(c), leaf) for c, leaf in zip(self.support, leaves, strict=True)]

    def log_density(self, z):
        if self.density is None:
            raise ValueError("this posterior was loaded from a file, which does not hold the density of the model.")
        return self.density(self.constrain(z)) + self.log_volume(z)

    def constrain(self, z):
        return jax.tree.unflatten(self.structure, self._map(lambda t, leaf: t(leaf), z))

    def unconstrain(self, draw):
        if jax.tree.structure(draw) != self.structure:
            found = jax.tree.structure(draw)
            raise ValueError(f"draw must have the structure of the example, {self.structure}, but has {found}.")
        return jax.tree.unflatten(self.structure, self._map(lambda t, leaf: t.inv(leaf), draw))

    def log_volumes(self, z: Unconstrained) -> PyTree:
        """The log-volumes of which `log_volume` is the sum, in a pytree like the draw: one for each event of a leaf.

        Args:
            z: unconstrained values.
        """
        return jax.tree.unflatten(self.structure, self._map(lambda t, leaf: t.log_abs_det_jacobian(leaf, t(leaf)), z))

    def log_volume(self, z):
        return total(self.log_volumes(z))

    def with_density(self, density: Callable | None) -> "SupportSpace":
        """The space with another density.

        Args:
            density: the density, or None.
        """
        return eqx.tree_at(lambda s: s.density, self, density, is_leaf=lambda leaf: leaf is None or callable(leaf))

    def detached(self):
        return self.with_density(None)


def total(tree: PyTree) -> Float[Array, ""]:
    """The sum of all entries of arrays.

    Args:
        tree: a pytree of arrays.
    """
    return sum(map(jnp.sum, jax.tree.leaves(tree)), jnp.zeros(()))


def match_support(support: PyTree, example: Draw) -> list[dist.constraints.Constraint]:
    """One constraint for each leaf of the example.

    Args:
        support: NumPyro constraints, in a pytree with the example's structure or a prefix of it: a constraint applies
            to all leaves below it. None means real.
        example: a draw.

    Raises:
        ValueError: if the structures do not match, or a constraint is missing or discrete.
    """

    def is_leaf(node):
        return node is None or isinstance(node, dist.constraints.Constraint)

    try:
        constraints = jax.tree.map(
            lambda c, part: [c or dist.constraints.real] * len(jax.tree.leaves(part)), support, example, is_leaf=is_leaf
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"support must be a pytree of NumPyro constraints that matches the example; the example's structure is "
            f"{jax.tree.structure(example)}, the support's {jax.tree.structure(support, is_leaf=is_leaf)}."
        ) from error
    constraints = jax.tree.leaves(constraints, is_leaf=is_leaf)
    for constraint in constraints:
        if not isinstance(constraint, dist.constraints.Constraint):
            raise ValueError(f"support must hold NumPyro constraints, but holds {constraint!r}.")
        if constraint.is_discrete:
            raise ValueError(f"a flow draws real numbers, so the support must be continuous, but holds {constraint!r}.")
    return constraints
