"""Targets: densities known up to a constant, as functions of unconstrained vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PyTree

from pushforward.arguments import checked, holds_real_numbers, in_words
from pushforward.bijections import AbstractBijection, num_parameters
from pushforward.posterior.forward_mode import ForwardMode, needs_forward_mode
from pushforward.posterior.runtime_errors import can_raise, without_errors, zero_at_errors
from pushforward.posterior.spaces import subsampled
from pushforward.posterior.spaces.base import AbstractSpace, Draw, SupportSpace, Unconstrained
from pushforward.posterior.spaces.large import with_likelihood
from pushforward.posterior.spaces.pymc import PymcSpace
from pushforward.posterior.spaces.rows import data_rows
from pushforward.posterior.structure import Structure, find_structure


class Target(eqx.Module):
    r"""A density known up to a constant, over any pytree of real arrays with any support.

    A target is a function of an unconstrained vector u: `target(u)` is the log-density of u, including the
    log-determinant of the transform to the support. `constrain` transforms u into a draw.

    With large data, give the log-likelihood of single rows: training then takes a batch of rows in each step, and the
    density of all rows is computed in parts.

    Args:
        log_density: a function from a pytree like the example to a scalar, $\log \tilde p$ in nats, up to a constant.
            With `log_likelihood` it is the log-density of the prior, without the data.
        example: a pytree of arrays, for the structure and shapes. If it lies in the support, it is also one of the
            starting points of a fit.
        support: NumPyro constraints, in a pytree like the example or a prefix of it; by default, all numbers are real.
        log_likelihood: a function from a draw and some rows of the data to the log-likelihood of each row.
        data: a pytree of arrays with one length along the first axis, its rows. A `numpy.memmap` among them stays on
            disk, and is read in parts. So is a table file that is given by its path, CSV, TSV, .npy or Parquet: it is
            a matrix of rows and columns.
        batch_size: the number of rows of a training batch; the memory of all computations is in proportion to it. By
            default 1,000, or all if there are fewer.

    Where the log-density raises an error while it runs (`equinox.error_if`, a solver of Diffrax that throws, or a
    function that `jax.pure_callback` calls), the density is zero. Where JAX knows its derivative in forward mode only
    (`jax.lax.while_loop`), a gradient costs as many evaluations as there are dimensions.

    Raises:
        ValueError: if the example is empty, not real-valued or not finite; if the support does not match it; if the
            log-density is not a scalar; if only one of `log_likelihood` and `data` is given; if arrays of the data have
            different lengths or hold values that are not finite; if the batch size exceeds the number of rows; or if
            the log-likelihood is not one number for each row that does not depend on other rows.
        TypeError: if the log-density does not return a real number.

    Examples:
        >>> import jax.numpy as jnp, pushforward as pf
        >>> import numpyro.distributions as dist
        >>> log_density = lambda v: dist.Gamma(3.0).log_prob(v["rate"]) + dist.Normal(0, v["rate"]).log_prob(v["shift"])
        >>> real, positive = dist.constraints.real, dist.constraints.positive
        >>> target = pf.Target(log_density, {"rate": 1.0, "shift": 0.0}, {"rate": positive, "shift": real})
        >>> target.dim
        2
        >>> target.constrain(jnp.zeros(2))["rate"].item()  # zero is the logarithm of the rate
        1.0
    """

    space: AbstractSpace
    example: Unconstrained
    can_raise: bool = eqx.field(static=True, default=False)
    is_forward_mode: bool = eqx.field(static=True, default=False)

    @checked()
    def __init__(
        self,
        log_density: Callable[[Draw], Float[Array, ""]] | AbstractSpace,
        example: Draw,
        support: PyTree = None,
        *,
        log_likelihood: Callable[[Draw, PyTree], Float[Array, " rows"]] | None = None,
        data: PyTree = None,
        batch_size: int | None = None,
    ):
        _check_large_data(log_likelihood, data, batch_size)
        example = _checked_example(example)
        if isinstance(log_density, AbstractSpace):
            self.space, z = log_density, example
        else:
            self.space = SupportSpace(log_density, support, example)
            _check_value(eqx.filter_eval_shape(log_density, example))
            z = self.space.unconstrain(example)
        # An example outside of its support is used for its shapes only.
        self.example = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0), z)
        if log_likelihood is not None:
            draw = self.constrain(self.start)
            self.space = with_likelihood(self.space, log_likelihood, data_rows(data), batch_size, draw)
        self.can_raise = can_raise(self._log_density, self.start)
        self.is_forward_mode = needs_forward_mode(self._log_density, self.start)

    @classmethod
    @checked()
    def from_numpyro(cls, model: Callable, *args: Any, **kwargs: Any) -> "Target":
        """The posterior of a NumPyro model with its arguments, the data included.

        The parameters are all latent sites, with any continuous support. Deterministic sites are part of the draws.
        Discrete latent sites are summed out by NumPyro's enumeration, with funsor. Parameters without a prior
        (`numpyro.param`, networks) and the keys of `numpyro.prng_key` are held fixed, in predictions too.
        Of a site with an `obs_mask`, the parameters are the entries that are not observed.

        Plates may be subsampled, `numpyro.plate(name, size, subsample_size)`: then the sites that are observed in them
        are the rows of large data, as with `log_likelihood`, and `subsample_size` is the batch size. The rows of
        subsampled plates inside each other are the pairs of their indices. Latent sites inside them are parameters, one
        for each index. Deterministic sites inside subsampled plates without latent sites are left out of the draws.

        Args:
            model: a NumPyro model.
            *args: the positional arguments of the model, of any types. Arrays are arguments of the compiled program if
                the model can be traced for all of their values; everything else is a constant of it.
            **kwargs: the keyword arguments of the model.

        Raises:
            ImportError: if the model has discrete latent sites and funsor is not installed.
            ValueError: if a discrete latent site cannot be summed out or there is no continuous one; if a subsampled
                plate has no observed site, or one with `obs_mask`; if the likelihood of an index of it depends on other
                indices; or if the Python code of a model with subsampled plates needs the values of its rows.

        Examples:
            >>> import jax.numpy as jnp, numpyro, pushforward as pf
            >>> import numpyro.distributions as dist
            >>> def heights(height=None):
            ...     mean = numpyro.sample("mean", dist.Normal(170, 20))
            ...     scale = numpyro.sample("scale", dist.HalfNormal(20))
            ...     with numpyro.plate("people", 4):
            ...         numpyro.sample("height", dist.Normal(mean, scale), obs=height)
            >>> target = pf.Target.from_numpyro(heights, height=jnp.array([171.0, 165.0, 183.0, 178.0]))
            >>> sorted(target.example)
            ['mean', 'scale']
        """
        return cls(*subsampled.trace(model, args, kwargs))

    @classmethod
    def from_pymc(cls, model: Any) -> "Target":
        """The posterior of a PyMC model, compiled by JAX.

        The parameters are all free variables; deterministic variables are part of the draws. The density is the one
        that PyMC's samplers use, in PyMC's unconstrained coordinates. JAX should be in 64-bit mode, as PyMC is.
        The data are those that the model has now: `pm.set_data` does not change the target.

        The arrays behind `pm.Minibatch` are the rows of large data, as with `log_likelihood`, and its `batch_size` is
        the batch size. Deterministic variables that depend on a minibatch are left out of the draws.

        Args:
            model: a PyMC model.

        Raises:
            ImportError: if PyMC is not installed.
            TypeError: if `model` is not a `pymc.Model`.
            ValueError: if the model has discrete free variables, or no free variable; or if a variable depends on a
                `pm.Minibatch` and is not observed with the number of all rows as `total_size`.
        """
        space, example = PymcSpace.compile(model)
        return cls(space, example)

    @property
    def start(self) -> Float[Array, " dim"]:
        """The example, as an unconstrained vector."""
        return ravel_pytree(self.example)[0]

    @property
    def dim(self) -> int:
        """The number of unconstrained dimensions."""
        return num_parameters(self.example)

    def coordinate_names(self) -> list[str]:
        """A name for each unconstrained dimension: the site or the path in the example, and the index."""
        names = []
        for path, leaf in jax.tree.leaves_with_path(self.example):
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "the draw"
            indices = map(list, np.ndindex(leaf.shape))
            names += [f"{name}{index}" for index in indices] if leaf.ndim else [name]
        return names

    @property
    def structure(self) -> Structure:
        """Which coordinates interact, from the Hessian at three points around the example; it has a `plot()`.

        The cost is as many gradients as there are dimensions, for each point.
        """
        near = jr.normal(jr.key(0), (2, self.dim), self.start.dtype)
        return find_structure(self, jnp.concatenate([self.start[None], self.start + near]), self.coordinate_names())

    @checked()
    def unravel(self, u: Float[Array, " dim"]) -> Unconstrained:
        """The unconstrained pytree with the entries of a vector.

        Args:
            u: an unconstrained vector.
        """
        return ravel_pytree(self.example)[1](u)

    def detached(self) -> "Target":
        """The target without its density and the user's code: it can still transform vectors to draws and back."""
        return eqx.tree_at(lambda t: t.space, self, self.space.detached())

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        log_density = ForwardMode(self._log_density) if self.is_forward_mode else self._log_density
        return zero_at_errors(u, log_density) if self.can_raise else log_density(u)

    def _log_density(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        return self.space.log_density(self.unravel(u))

    @checked()
    def raises(self, u: Float[Array, " dim"]) -> Bool[Array, ""]:
        """Whether the log-density raises an error at an unconstrained vector.

        Args:
            u: an unconstrained vector.
        """
        return without_errors(self._log_density)(u)[1] if self.can_raise else jnp.array(False)

    @checked()
    def constrain(self, u: Float[Array, " dim"]) -> Draw:
        """The draw at an unconstrained vector.

        Args:
            u: an unconstrained vector.

        Returns:
            A pytree like the example, or a dict of the sites of a model.
        """
        draw = self.space.constrain
        return without_errors(draw)(self.unravel(u))[0] if self.can_raise else draw(self.unravel(u))

    @checked()
    def unconstrain(self, draw: PyTree[ArrayLike]) -> Float[Array, " dim"]:
        """The unconstrained vector of a draw, the inverse of `constrain`.

        Args:
            draw: a pytree like the example, or a dict of the latent sites of a model.
        """
        return ravel_pytree(self.space.unconstrain(draw))[0]

    @checked()
    def log_volume(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        r"""$\log|\det|$ of the Jacobian of `constrain` at an unconstrained vector.

        Args:
            u: an unconstrained vector.
        """
        return self.space.log_volume(self.unravel(u))


def _check_large_data(log_likelihood: Callable | None, data: PyTree, batch_size: int | None) -> None:
    if (log_likelihood is None) != (data is None):
        given, missing = ("data", "log_likelihood") if log_likelihood is None else ("log_likelihood", "data")
        raise ValueError(
            f"{given} is given without {missing}: log_likelihood(draw, rows) is called with rows of data, and returns "
            "the log-likelihood of each."
        )
    if batch_size is not None and data is None:
        raise ValueError("batch_size is the number of rows of data in a batch, so it needs data and log_likelihood.")


def _checked_example(example: Draw) -> Draw:
    if not jax.tree.leaves(example):
        raise ValueError("the example is empty: it must hold at least one array, for the structure and shapes.")
    for path, leaf in jax.tree.leaves_with_path(example):
        name = f"example{jax.tree_util.keystr(path)}"
        if not holds_real_numbers(leaf):
            raise ValueError(f"{name} must be a real array, but is {in_words(leaf)}.")
        value = jnp.asarray(leaf)
        if not value.size:
            raise ValueError(f"{name} must be a real array that is not empty, but has {value.dtype}{value.shape}.")
        if not bool(jnp.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, but holds NaN or infinite values.")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=float), example)


def _check_value(value: Any) -> None:
    """Raise unless the result of a log-density, or its shape and dtype, is that of a real number."""
    expected = "the log-density must return one real number, a scalar floating-point array, but for the example it"
    if isinstance(value, float):
        return
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        reason = "None; does the function have a return statement?"
        raise TypeError(f"{expected} returns {reason if value is None else 'the type ' + type(value).__name__}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{expected} has dtype {value.dtype}.")
    if value.shape != ():
        raise ValueError(f"{expected} has shape {value.shape}.")


class Whitened(eqx.Module):
    """A target in the coordinates w of an affine map, u = A w + b, in which it is of order one.

    Args:
        target: the log-density of u.
        affine: the map from w to u.
    """

    target: Callable[[Array], Float[Array, ""]]
    affine: AbstractBijection

    def __call__(self, w: Float[Array, " dim"]) -> Float[Array, ""]:
        u, log_det = self.affine.forward_and_log_det(w)
        return self.target(u) + log_det


def finite_or_zero(log_density: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Log-densities that count: one that is NaN, or that has overflowed to +inf, is no evidence, so it becomes -inf.

    Args:
        log_density: logarithms of densities or weights.
    """
    return jnp.where(jnp.isfinite(log_density), log_density, -jnp.inf)


@eqx.filter_jit
def constrain(target: Target, u: Float[Array, "*batch dim"]) -> Draw:
    """The draws at unconstrained vectors, with the same leading axes; compiled.

    Args:
        target: the target.
        u: the unconstrained vectors.
    """
    draws = jax.vmap(target.constrain)(u.reshape(-1, target.dim))
    return jax.tree.map(lambda leaf: leaf.reshape(u.shape[:-1] + leaf.shape[1:]), draws)
