"""Targets: densities known up to a constant, as functions of unconstrained vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pushforward.bijections import Triangular, num_parameters
from pushforward.posterior.spaces.base import AbstractSpace, Draw, SupportSpace, Unconstrained
from pushforward.posterior.spaces.numpyro import NumpyroSpace
from pushforward.posterior.spaces.pymc import PymcSpace


class Target(eqx.Module):
    r"""A density known up to a constant, over any pytree of real arrays with any support.

    A target is a function of an unconstrained vector: `target(u)` is the log-density of u, the log-determinant of the
    transform to the support included. `constrain` gives the draw that u stands for.

    Args:
        log_density: maps a pytree like the example to a scalar, $\log \tilde p$ in nats; any constant may be missing.
        example: a pytree of arrays, for the structure and shapes. Where it lies in the support it is also one of the
            points that a fit starts from.
        support: NumPyro constraints, in a pytree like the example or a prefix of it; by default all is real.

    Raises:
        ValueError: if the example is empty, not real-valued or not finite, or the support does not match it, or the
            log-density is not a scalar.
    """

    space: AbstractSpace
    example: Unconstrained

    def __init__(
        self, log_density: Callable[[Draw], Float[Array, ""]] | AbstractSpace, example: Draw, support: PyTree = None
    ):
        example = _checked_example(example)
        if isinstance(log_density, AbstractSpace):
            self.space, z = log_density, example
        else:
            self.space = SupportSpace(log_density, support, example)
            z = self.space.unconstrain(example)
        # An example outside of its support still tells the shapes.
        self.example = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0), z)
        shape = getattr(eqx.filter_eval_shape(self, self.start), "shape", None)
        if shape != ():
            raise ValueError(f"the log-density must be a scalar, but for the example it has shape {shape}.")

    @classmethod
    def from_numpyro(cls, model: Callable, *args: Any, **kwargs: Any) -> "Target":
        """The posterior of a NumPyro model, given its arguments (with the data among them).

        All continuous latent sites are parameters, whatever their supports; deterministic sites are part of the draws.

        Raises:
            ValueError: if the model has discrete latent sites, subsampled plates or no latent site.
        """
        space, example = NumpyroSpace.trace(model, args, kwargs)
        return cls(space, example)

    @classmethod
    def from_pymc(cls, model: Any) -> "Target":
        """The posterior of a PyMC model, compiled by JAX.

        All free variables are parameters; deterministic variables are part of the draws. The density is the one that
        PyMC's samplers see, in PyMC's unconstrained coordinates. JAX should be in 64-bit mode, as PyMC is.

        Raises:
            ImportError: if PyMC is not installed.
            TypeError: if it is no `pymc.Model`.
            ValueError: if the model has discrete free variables, or none.
        """
        space, example = PymcSpace.of(model)
        return cls(space, example)

    @property
    def start(self) -> Float[Array, " dim"]:
        """The example, as an unconstrained vector."""
        return ravel_pytree(self.example)[0]

    @property
    def dim(self) -> int:
        """The number of unconstrained dimensions."""
        return num_parameters(self.example)

    def unravel(self, u: Float[Array, " dim"]) -> Unconstrained:
        """The unconstrained pytree that a vector stands for."""
        return ravel_pytree(self.example)[1](u)

    def detached(self) -> "Target":
        """The target without its density: enough for draws, and free of the user's code."""
        return eqx.tree_at(lambda t: t.space, self, self.space.detached())

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        return self.space.log_density(self.unravel(u))

    def constrain(self, u: Float[Array, " dim"]) -> Draw:
        """The draw that u stands for."""
        return self.space.constrain(self.unravel(u))

    def unconstrain(self, draw: Draw) -> Float[Array, " dim"]:
        """The u that stands for a draw."""
        return ravel_pytree(self.space.unconstrain(draw))[0]

    def log_volume(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-volume element of `constrain` at u."""
        return self.space.log_volume(self.unravel(u))


def _checked_example(example: Draw) -> Draw:
    if not jax.tree.leaves(example):
        raise ValueError("the example is empty: it must hold at least one array, to tell structure and shapes.")
    for path, leaf in jax.tree.leaves_with_path(example):
        name = f"example{jax.tree_util.keystr(path)}"
        try:
            value = jnp.asarray(leaf)
        except TypeError as error:
            raise ValueError(f"{name} must be a real array, but is a {type(leaf).__name__}.") from error
        if jnp.issubdtype(value.dtype, jnp.complexfloating) or not value.size:
            raise ValueError(f"{name} must be a real array that is not empty, but has {value.dtype}{value.shape}.")
        if not bool(jnp.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, but holds NaN or infinite values.")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=float), example)


class Whitened(eqx.Module):
    """A target in the coordinates w of an affine map, u = L w + b."""

    target: Callable[[Array], Float[Array, ""]]
    affine: Triangular

    def __call__(self, w: Float[Array, " dim"]) -> Float[Array, ""]:
        u, log_det = self.affine.forward_and_log_det(w)
        return self.target(u) + log_det


@eqx.filter_jit
def constrain(target: Target, u: Float[Array, "*batch dim"]) -> Draw:
    """The draws that vectors stand for, with their leading axes; compiled."""
    draws = jax.vmap(target.constrain)(u.reshape(-1, target.dim))
    return jax.tree.map(lambda leaf: leaf.reshape(u.shape[:-1] + leaf.shape[1:]), draws)
