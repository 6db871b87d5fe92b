"""What a bijection is, and where its arrays come from.

A bijection acts on one event; batches are `jax.vmap`. `forward` maps base to data (u to x), `inverse` data to base.
Its inexact arrays are its parameters, all of them; constants are bool, integer or static. Because a bijection is
plain data, the optimiser, a conditioner and an encoder all parametrise it in the same way: `shift_arrays`.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import detach, parameters

# The methods of a bijection, and how many arrays each takes before the condition.
METHODS = {"forward_and_log_det": 1, "inverse_and_log_det": 1, "push_score": 2}


# Whether events lie along last axes, as they do inside `batched` alone: elsewhere further axes are a mistake, which a
# batch of as many events as an event has coordinates would not show.
_batch_last: ContextVar[bool] = ContextVar("batch_last", default=False)


@contextmanager
def _along_last_axes() -> Iterator[None]:
    token = _batch_last.set(True)
    try:
        yield
    finally:
        _batch_last.reset(token)


def _checked(method: Callable, num_arrays: int) -> Callable:
    """The method, which raises if it is given other shapes than the bijection's, and sees its own condition alone."""
    signature = inspect.signature(method)
    names = [*signature.parameters][1:]
    events, given = names[:num_arrays], names[num_arrays]

    @functools.wraps(method)
    def call(self, *arguments, **keywords):
        bound = signature.bind(self, *arguments, **keywords)
        values = bound.arguments
        if self.cond_shape is None:
            values[given] = None  # a part of a chain in which others take one
        elif values.get(given) is None:
            raise ValueError(f"{type(self).__name__} needs a condition of shape {self.cond_shape}, but got none.")
        arrays = {name: jnp.asarray(values[name]) for name in (*events, given) if values[name] is not None}
        dtype = common_dtype(self, *arrays.values())
        for name, array in arrays.items():
            what, shape = ("a condition", self.cond_shape) if name == given else ("an event", self.shape)
            _check_event(self, what, array, shape or ())
            values[name] = jnp.asarray(array, dtype)
        return method(*bound.args, **bound.kwargs)

    return call


def common_dtype(bijection: "AbstractBijection", *values: Array) -> jnp.dtype:
    """One dtype for what goes in, as wide as the parameters: loops need it to be like what comes out."""
    dtype = jnp.result_type(float, *values, *jax.tree.leaves(parameters(bijection)))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{type(bijection).__name__} takes real numbers, but got {dtype}.")
    return dtype


def _check_event(bijection: "AbstractBijection", what: str, array: Array, shape: tuple[int, ...]) -> None:
    given = np.shape(array)
    batch_last = bijection.vectorized and _batch_last.get()
    if (given[: len(shape)] if batch_last else given) != tuple(shape):
        raise ValueError(
            f"{type(bijection).__name__} takes {what} of shape {tuple(shape)}, but got shape {given}"
            + ("; for a batch use jax.vmap." if given[len(given) - len(shape) :] == tuple(shape) else ".")
        )


class AbstractBijection(eqx.Module):
    r"""A diffeomorphism $x = T(u)$ of one event, with the log-determinants of both directions.

    Subclasses give `shape` (of the event), `cond_shape` (of the condition, or None) and two methods. Each returns the
    log-determinant of its own direction. `key` feeds stochastic log-determinants: without it they are exact.
    `domain` and `codomain` tell where the coordinates of $u$ and of $x$ lie, where that is not the whole line.

    References:
        Papamakarios et al., Normalizing Flows for Probabilistic Modeling and Inference (2021), section 2.
        https://arxiv.org/abs/1912.02762
    """

    shape: eqx.AbstractVar[tuple[int, ...]]
    cond_shape: eqx.AbstractVar[tuple[int, ...] | None]
    domain: ClassVar[Constraint] = constraints.real
    codomain: ClassVar[Constraint] = constraints.real
    # Whether the methods also take events along a last axis, as `batched` needs them: faster than `jax.vmap`, which
    # puts the batch first, where it tears the coordinates of a batch apart. Shapes are checked while `batched` runs: in
    # one of these, a function that JAX calls later (a rule of `jax.custom_vjp`, say) applies parts by their `batched`.
    vectorized: ClassVar[bool] = False
    # Whether it maps every interval that is the same for all coordinates onto itself, as a permutation does.
    keeps_intervals: ClassVar[bool] = False

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for name, num_arrays in METHODS.items():
            method = cls.__dict__.get(name)
            if method is not None and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _checked(method, num_arrays))

    @property
    def stochastic(self) -> bool:
        """Whether a key makes log-determinants random estimates: if it does for a part."""
        return any(part.stochastic for part in self._parts())

    @property
    def numerical_inverse(self) -> bool:
        """Whether the inverse is iterative, at the cost of many evaluations: if that of a part is."""
        return any(part.numerical_inverse for part in self._parts())

    def _parts(self) -> list["AbstractBijection"]:
        """The bijections among the fields."""
        nodes = jax.tree.leaves(vars(self), is_leaf=lambda node: isinstance(node, AbstractBijection))
        return [node for node in nodes if isinstance(node, AbstractBijection)]

    @abc.abstractmethod
    def forward_and_log_det(
        self, u: Array, condition: Array | None = None, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, Float[Array, ""]]:
        r"""$T(u)$ and $\log|\det J_T(u)|$."""

    @abc.abstractmethod
    def inverse_and_log_det(
        self, x: Array, condition: Array | None = None, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, Float[Array, ""]]:
        r"""$T^{-1}(x)$ and $\log|\det J_{T^{-1}}(x)|$."""

    def forward(self, u: Array, condition: Array | None = None) -> Array:
        """$T(u)$."""
        return self.forward_and_log_det(u, condition)[0]

    def inverse(self, x: Array, condition: Array | None = None) -> Array:
        """$T^{-1}(x)$."""
        return self.inverse_and_log_det(x, condition)[0]

    def push_score(self, u: Array, score: Array, condition: Array | None = None) -> tuple[Array, Array, Array]:
        r"""Carry the score of a density along: from $\nabla_u \log q_u(u)$ to $\nabla_x \log q_x(x)$ at $x = T(u)$.

        This is what a path gradient needs. The score solves $J_T^\top s_x = s_u - \nabla_u \log|\det J_T(u)|$, which
        the inverse's vector-Jacobian product does for any bijection; layers that can do it without an inverse
        pass override this method.

        Gradients flow through $x$ and the log-determinant, never through the score.

        Returns:
            $x$, $\log|\det J_T(u)|$ and the score at $x$.

        References:
            Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows (2024), section 3.
            https://arxiv.org/abs/2403.15881
        """
        x, log_det = self.forward_and_log_det(u, condition)
        frozen, fixed_condition = detach((self, condition))
        _, pull = jax.vjp(lambda x: frozen.inverse_and_log_det(x, fixed_condition), detach(x))
        return x, log_det, pull((score, jnp.ones_like(log_det)))[0]

    def batched(
        self,
        method: str,
        arrays: tuple[Array, ...],
        condition: Array | None = None,
        condition_axis: int | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, ...]:
        """Apply a method to events along the last axis of each array; the results have them there too.

        Args:
            method: "forward_and_log_det", "inverse_and_log_det" or "push_score".
            arrays: its arguments before the condition.
            condition: one condition, or one for each event.
            condition_axis: the axis of `condition` that runs over events, None for one condition.
            key: for stochastic log-determinants, which differ from event to event.
        """
        if self.vectorized:
            if condition is not None:
                condition = jnp.moveaxis(condition, condition_axis, -1) if condition_axis is not None else condition
                condition = condition[..., None] if condition_axis is None else condition
            with _along_last_axes():
                return getattr(self, method)(*arrays, condition, **_with(key))

        def one(arrays, condition, key):
            return getattr(self, method)(*arrays, condition, **_with(key))

        keys = None if key is None else jax.random.split(key, arrays[0].shape[-1])
        key_axis = None if key is None else 0
        return jax.vmap(one, in_axes=(-1, condition_axis, key_axis), out_axes=-1)(arrays, condition, keys)


def _with(key: PRNGKeyArray | None) -> dict[str, PRNGKeyArray]:
    """A key as a keyword, which `push_score` does not take."""
    return {} if key is None else {"key": key}


def no_log_det(bijection: AbstractBijection, u: Array) -> Array:
    """The log-determinant 0, for each event of `u`."""
    return jnp.zeros(u.shape[len(bijection.shape) :], u.dtype)


def push_score_scalar(bijection: AbstractBijection, u: Float[Array, ""], score: Float[Array, ""]):
    r"""`push_score` of a scalar bijection, whose Jacobian is known: $s_x = (s_u - \partial_u \log T'(u)) / T'(u)$."""
    x, log_det = bijection.forward_and_log_det(u)
    frozen = detach(bijection)
    slope = jax.grad(lambda u: frozen.forward_and_log_det(u)[1])(detach(u))
    return x, log_det, (score - slope) * jnp.exp(-detach(log_det))
