"""A flow: the pushforward of a base distribution by a bijection."""

import inspect
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.util import lazy_property

from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections import AbstractBijection, num_parameters
from pushforward.bijections.arrays import ArrayLike, detach
from pushforward.bijections.base import common_dtype
from pushforward.bijections.intervals import bounds, covers
from pushforward.bijections.outline import Outline, outline
from pushforward.serialization import Picklable, save


class Learnable(Picklable):
    """A NumPyro distribution with trainable parameters, which always satisfy the constraints that it declares.

    Args:
        distribution: the family and the initial values of the parameters, which must be real-valued.

    Raises:
        ValueError: if the distribution has no parameters, or if a parameter cannot be learned because NumPyro has no
            bijection onto its constraint.
    """

    raw: dict[str, Array]
    template: dist.Distribution

    @checked()
    def __init__(self, distribution: dist.Distribution):
        self.template = distribution
        self.raw = {}

        def record(path, value, constraint):
            value = jnp.asarray(value)
            if not jnp.issubdtype(value.dtype, jnp.inexact):
                value = value.astype(float)
            try:
                self.raw[path] = dist.biject_to(constraint).inv(value)
            except NotImplementedError as error:
                raise ValueError(
                    f"the parameter {path} of {type(distribution).__name__} cannot be learned: its constraint "
                    f"{constraint} has no bijection from the real line; use the distribution without Learnable."
                ) from error
            return value

        rebuild(distribution, record)
        if not self.raw:
            raise ValueError(f"{type(distribution).__name__} has no parameters to learn.")

    @property
    def distribution(self) -> dist.Distribution:
        """The distribution at the current parameters."""
        return rebuild(self.template, lambda path, value, constraint: dist.biject_to(constraint)(self.raw[path]))


def rebuild(d: dist.Distribution, visit: Callable, path: str = "") -> dist.Distribution:
    """The distribution with each parameter replaced by `visit(path, value, constraint)`.

    It calls the constructors, because some distributions store values computed from their parameters.

    Args:
        d: the distribution; also `Independent`, `Expanded`, `Transformed` and `MixtureSameFamily` ones.
        visit: a function of the parameter's path, its value and its constraint that returns the new value.
        path: a prefix of the paths.
    """
    if isinstance(d, dist.Independent):
        return rebuild(d.base_dist, visit, path).to_event(d.reinterpreted_batch_ndims)
    if isinstance(d, dist.ExpandedDistribution):
        return rebuild(d.base_dist, visit, path).expand(d.batch_shape)
    if isinstance(d, dist.MixtureSameFamily):
        mixing = rebuild(d.mixing_distribution, visit, f"{path}mixing.")
        return dist.MixtureSameFamily(mixing, rebuild(d.component_distribution, visit, f"{path}component."))
    accepted = inspect.signature(type(d).__init__).parameters
    # Lazy properties, such as a covariance computed from its factor, are not parameters.
    own = [name for name in d.arg_constraints if not isinstance(getattr(type(d), name, None), lazy_property)]
    names = [name for name in own if name in accepted and d.__dict__.get(name) is not None]
    if names:
        return type(d)(**{n: visit(f"{path}{n}", d.__dict__[n], d.arg_constraints[n]) for n in names})
    if isinstance(d, dist.TransformedDistribution):
        return dist.TransformedDistribution(rebuild(d.base_dist, visit, path), d.transforms)
    raise ValueError(
        f"the parameters of {type(d).__name__} cannot be learned; use a distribution with declared arg_constraints, or "
        "Independent, Expanded, Transformed and MixtureSameFamily over such distributions."
    )


class Flow(Picklable):
    r"""The distribution of $x = T(u)$, $u \sim$ base: $\log q(x) = \log p_u(T^{-1}(x)) + \log|\det J_{T^{-1}}(x)|$.

    Methods take leading batch axes; those of `x` and `condition` broadcast. To compile a method, use
    `equinox.filter_jit(flow.log_prob)` or `jax.jit(lambda x: flow.log_prob(x))`: `jax.jit(flow.log_prob)` fails,
    because a bound method of a module with arrays is not hashable. For second derivatives use `jax.hessian`, forward
    over reverse: JAX cannot apply reverse mode twice to the loops of numerical inverses.

    Args:
        base: a NumPyro distribution over arrays of the bijection's shape, which is not trained, or a `Learnable` one.
        bijection: $T$.

    Raises:
        TypeError: if `base` is neither a NumPyro distribution nor `Learnable`, or `bijection` is not a bijection.
        ValueError: if the event shape of the base is not the shape of the bijection, if the base has a batch shape or
            is discrete, or if its support is not inside the domain of the bijection.

    References:
        Papamakarios et al. (2021), equations 1 and 2. https://arxiv.org/abs/1912.02762

    Examples:
        >>> import jax, jax.numpy as jnp, pushforward as pf
        >>> import numpyro.distributions as dist
        >>> key, base = jax.random.key(0), dist.Normal(jnp.zeros(2), 1.0).to_event(1)
        >>> flow = pf.Flow(base, pf.bijections.Planar(2, key=key))
        >>> x, log_prob = flow.sample_and_log_prob(key, (5,))
        >>> bool(jnp.allclose(flow.log_prob(x), log_prob, atol=1e-5))
        True
    """

    base: dist.Distribution | Learnable
    bijection: AbstractBijection

    @checked()
    def __init__(self, base: dist.Distribution | Learnable, bijection: AbstractBijection):
        self.base, self.bijection = base, bijection
        d = self.base_distribution
        if tuple(d.event_shape) != tuple(bijection.shape) or d.batch_shape != ():
            raise ValueError(
                f"the base must have the bijection's event shape {bijection.shape} and an empty batch shape, but has "
                f"event shape {d.event_shape} and batch shape {d.batch_shape}"
                + ("; .to_event() turns batch axes into event axes." if d.batch_shape else ".")
            )

        if d.is_discrete:
            raise ValueError(f"the base must be continuous, but {type(d).__name__} is discrete.")
        if not _may_contain(bijection.domain, d.support):
            raise ValueError(
                f"the base has support {d.support}, which is not inside the bijection's domain {bijection.domain}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one draw."""
        return self.bijection.shape

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        """The shape of one condition, None for an unconditional flow."""
        return self.bijection.cond_shape

    @property
    def base_distribution(self) -> Any:
        """The base at its current parameters, a NumPyro distribution."""
        return self.base.distribution if isinstance(self.base, Learnable) else self.base

    @checked()
    def log_prob(
        self, x: ArrayLike, condition: ArrayLike | None = None, *, log_det_key: PRNGKeyArray | None = None
    ) -> Array:
        """The log-density of each event in nats, an array of the batch shape.

        Args:
            x: events, of shape (..., *shape).
            condition: the condition of a conditional flow, of shape (..., *cond_shape).
            log_det_key: if given, stochastic log-determinants are estimated with this key, which is cheaper; otherwise
                they are exact.
        """
        x = jnp.asarray(x, dtype=self._dtype(x))
        _check_event("x", x, self.shape)
        lower, upper = bounds(self.bijection.codomain)
        bounded = not (np.isneginf(lower).all() and np.isposinf(upper).all())
        # Events outside are clipped, so that they do not make the gradients of other events NaN.
        inside = jnp.clip(x, lower.astype(x.dtype), upper.astype(x.dtype)) if bounded else x
        condition = self.checked_condition(condition)
        u, log_det = self.bijection.batched.inverse_and_log_det(inside, condition, key=log_det_key)
        # For NaN some distributions of NumPyro return -inf, as for values outside the support.
        log_prob = jnp.where(jnp.isnan(u).any(axis=self._event_axes(u)), jnp.nan, self._base_log_prob(u)) + log_det
        if not bounded:
            return log_prob
        # NaN is neither inside nor outside, and stays NaN.
        return jnp.where(jnp.any((x < lower) | (x > upper), axis=self._event_axes(x)), -jnp.inf, log_prob)

    @checked(sample_shape=FROM_ZERO)
    def sample(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = (), condition: ArrayLike | None = None
    ) -> Array:
        """Draws of shape sample_shape + batch shape of the condition + event shape.

        Args:
            key: a random key.
            sample_shape: the number of draws, as a shape, for each condition.
            condition: the condition of a conditional flow, of shape (..., *cond_shape).
        """
        return self.sample_and_log_prob(key, sample_shape, condition)[0]

    @checked(sample_shape=FROM_ZERO)
    def sample_and_log_prob(
        self,
        key: PRNGKeyArray,
        sample_shape: tuple[int, ...] = (),
        condition: ArrayLike | None = None,
        *,
        log_det_key: PRNGKeyArray | None = None,
    ) -> tuple[Array, Array]:
        """Draws and their log-densities, in one pass and without an inverse.

        Args:
            key: a random key.
            sample_shape: as in `sample`.
            condition: as in `sample`.
            log_det_key: as in `log_prob`.
        """
        condition = self.checked_condition(condition)
        u = self._sample_base(key, sample_shape, condition)
        x, log_det = self.bijection.batched.forward_and_log_det(u, condition, key=log_det_key)
        return x, self._base_log_prob(u) - log_det

    @checked(sample_shape=FROM_ZERO)
    def sample_log_prob_and_score(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = (), condition: ArrayLike | None = None
    ) -> tuple[Array, Array, Array]:
        r"""Draws, their log-densities and scores $\nabla_x \log q(x)$, in one pass.

        Gradients flow through the draws and log-densities, not through the scores.

        Args:
            key: a random key.
            sample_shape: as in `sample`.
            condition: as in `sample`.
        """
        condition = self.checked_condition(condition)
        u = self._sample_base(key, sample_shape, condition)
        base = detach(self.base).distribution if isinstance(self.base, Learnable) else self.base_distribution
        score = jax.grad(lambda u: jnp.sum(base.log_prob(u)))(jax.lax.stop_gradient(u))
        x, log_det, score = self.bijection.batched.push_score(u, score, condition)
        return x, self._base_log_prob(u) - log_det, jax.lax.stop_gradient(score)

    @checked()
    def save(self, path: str | os.PathLike) -> None:
        """Save to one file; `pushforward.load` reads it.

        Args:
            path: the path of the file, which is replaced if it exists.

        Raises:
            ValueError: if the flow holds a function that cannot be saved by name, such as a lambda.
        """
        save(path, self.as_saved())

    def _repr_html_(self) -> str:
        base = f"Learnable {type(self.base.template).__name__}" if isinstance(self.base, Learnable) else None
        base = Outline(base or type(self.base).__name__, f"{self.shape}", num_parameters(self.base))
        shape = f"{self.shape}" if self.cond_shape is None else f"{self.shape} given {self.cond_shape}"
        return Outline("Flow", shape, num_parameters(self), (base, outline(self.bijection)))._repr_html_()

    def _event_axes(self, array: Array) -> range:
        return range(array.ndim - len(self.shape), array.ndim)

    def _base_log_prob(self, u):
        if not u.size:  # NumPyro fails on empty batches
            return jnp.zeros(u.shape[: u.ndim - len(self.shape)], u.dtype)
        return self.base_distribution.log_prob(u)

    def _sample_base(self, key, sample_shape, condition):
        if not isinstance(sample_shape, tuple):
            raise ValueError(
                f"sample_shape must be a tuple of integers, as in ({sample_shape},), but got {sample_shape!r}."
            )
        batch = () if condition is None else condition.shape[: condition.ndim - len(self.cond_shape or ())]
        d = self.base_distribution
        draw = d.rsample if isinstance(self.base, Learnable) and d.has_rsample else d.sample
        u = draw(key, (*sample_shape, *batch))
        return u.astype(self._dtype(u))

    def _dtype(self, value: Any) -> jnp.dtype:
        return common_dtype(self.bijection, jnp.asarray(value))

    def checked_condition(self, condition: ArrayLike | None) -> Array | None:
        """The condition in the flow's dtype; raise if it is missing, not needed or of the wrong shape.

        Args:
            condition: an array of shape (..., *cond_shape), or None for an unconditional flow.
        """
        if self.cond_shape is None:
            if condition is not None:
                raise ValueError("this flow takes no condition, but condition= was given; build it with cond_dim.")
            return None
        if condition is None:
            raise ValueError(f"this flow needs a condition of shape (..., {_commas(self.cond_shape)}), but got none.")
        condition = jnp.asarray(condition, dtype=self._dtype(condition))
        _check_event("condition", condition, self.cond_shape)
        return condition


def check_flow(flow: Any, shape: tuple[int, ...], cond_shape: tuple[int, ...] | None, like: str) -> None:
    """Raise unless this is a flow with these shapes.

    Args:
        flow: the value that the user passed.
        shape: the shape that its draws must have.
        cond_shape: the shape that its conditions must have, None for an unconditional flow.
        like: a description of what has these shapes, for the message.

    Raises:
        TypeError: if it is not a `Flow`.
        ValueError: if its shapes are others.
    """
    if not isinstance(flow, Flow):
        what = flow if isinstance(flow, str) else getattr(flow, "__name__", type(flow).__name__)
        recipe = f"maf({_commas(shape)}, {f'cond_dim={_commas(cond_shape)}, ' if cond_shape else ''}key=key)"
        raise TypeError(
            f"the flow must be a Flow of shape {shape} and cond_shape {cond_shape}, like {like}, as pushforward.flows."
            f"{recipe} returns it, but is {what!r}."
        )
    if flow.shape != shape or flow.cond_shape != cond_shape:
        raise ValueError(
            f"the flow must have shape {shape} and cond_shape {cond_shape}, like {like}, but has shape {flow.shape} "
            f"and cond_shape {flow.cond_shape}."
        )


def _may_contain(domain: Constraint, support: Constraint | None) -> bool:
    """Whether the domain contains the support; true if the support is not an interval, which cannot be checked."""
    try:
        return support is None or covers(domain, support)
    except ValueError:
        return True


def _commas(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _check_event(name: str, value: Array, shape: tuple[int, ...]) -> None:
    if value.shape[value.ndim - len(shape) :] != tuple(shape):
        raise ValueError(f"{name} must have shape (..., {_commas(shape)}), but has shape {value.shape}.")
