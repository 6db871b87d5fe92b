"""Targets that depend on data: a posterior for every data set."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from pushforward.arguments import checked
from pushforward.posterior.spaces.arguments import unmasked
from pushforward.posterior.spaces.base import AbstractSpace, Draw
from pushforward.posterior.spaces.numpyro import NumpyroSpace
from pushforward.posterior.spaces.observed import PartlyObserved, check_masks
from pushforward.posterior.target import Target


class JointAtData(eqx.Module):
    """A joint density of draws and data, at one data set.

    Args:
        log_density: the log-density as a function of a draw and a data set; None in a target from a file.
        data: the data set.
    """

    log_density: Callable[[Draw, PyTree], Float[Array, ""]] | None
    data: PyTree

    def __call__(self, draw: Draw) -> Float[Array, ""]:
        if self.log_density is None:
            raise ValueError("this posterior was loaded from a file, which does not hold the density of the model.")
        return self.log_density(draw, self.data)


class ConditionalTarget(eqx.Module):
    r"""A posterior for every data set: $p(u \mid x) \propto \tilde p(u, x)$.

    Args:
        log_density: a function from a draw and a data set to $\log \tilde p(u, x)$, in nats, up to a constant.
        example: a draw, as for `Target`.
        data: one data set, a pytree of arrays, for the structure and shapes.
        support: the support of the draw, as for `Target`.

    Attributes:
        target: the posterior of that data set.
    """

    target: Target

    @checked()
    def __init__(
        self,
        log_density: Callable[[Draw, PyTree], Float[Array, ""]] | AbstractSpace,
        example: Draw,
        data: PyTree[ArrayLike],
        support: PyTree = None,
    ):
        if isinstance(log_density, AbstractSpace):
            self.target = Target(log_density, example)
        else:
            self.target = Target(JointAtData(log_density, as_arrays(data)), example, support)

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of version 0.1.0, which also named the function that finds the data in the target."""
        return {name: value for name, value in fields.items() if name != "where"}

    @classmethod
    @checked()
    def from_numpyro(cls, model: Callable, data: PyTree[ArrayLike], *args: Any, **kwargs: Any) -> "ConditionalTarget":
        """The posteriors of a NumPyro model whose first argument is the data set.

        Args:
            model: a NumPyro model.
            data: one data set, for the structure and shapes.
            *args: the further positional arguments, which are the same for all data sets.
            **kwargs: the keyword arguments, which are the same for all data sets.

        Raises:
            ValueError: if the model's Python code uses the values of its data, so that JAX cannot trace it; or if the
                `obs_mask` of a site depends on the data.
        """
        args, kwargs = unmasked(model, (as_arrays(data), *args), kwargs)
        space, example = NumpyroSpace.trace(model, args, kwargs)
        if not space.is_conditional:
            raise ValueError(
                "the model's Python code uses the values of its data (for example in an `if` or as an array size), so "
                "JAX cannot trace it for all data sets; use jax.numpy.where, and take sizes from array shapes."
            )
        check_masks(space, example)
        return cls(*PartlyObserved.reduce(space.for_all_data(example), example), data)

    @property
    def data(self) -> PyTree:
        """The data set that the target was made with."""
        return self.target.space.data

    @checked()
    def at(self, data: PyTree[ArrayLike]) -> Target:
        """The posterior of one data set.

        Args:
            data: a data set of the same structure and shapes as the one that the target was made with.

        Raises:
            ValueError: if the structure or the shapes differ.
        """
        data = as_arrays(data)
        given, expected = (jax.tree.map(jnp.shape, d) for d in (data, self.data))
        if given != expected:
            raise ValueError(f"data must be a data set of shapes {expected}, but has shapes {given}.")
        return eqx.tree_at(lambda t: t.space, self.target, self.target.space.with_data(data))

    def detached(self) -> "ConditionalTarget":
        """The target without its density and the user's code: it can still transform vectors to draws and back.

        Raises:
            ValueError: if a support depends on the data, or on another site.
        """
        space: Any = self.target.space.detached()
        space = space.with_density(JointAtData(None, self.data))
        return eqx.tree_at(lambda t: t.target.space, self, space)


def as_arrays(data: PyTree) -> PyTree:
    """The data with all leaves as JAX arrays of their own dtypes.

    Args:
        data: a pytree of arrays or numbers.
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.result_type(leaf)), data)
