"""The interface of bijections, for one event and for batches."""

import abc
import math
from collections.abc import Callable
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import ArrayLike, detach, parameters
from pushforward.serialization import Picklable

# A point and the log-determinant there; `push_score` returns the score too.
Mapped = tuple[Array, Array]
Pushed = tuple[Array, Array, Array]
R = TypeVar("R", bound=tuple[Array, ...])


class AbstractBijection(Picklable):
    r"""A diffeomorphism $x = T(u)$ of one event, with the log-determinants of both directions.

    `forward` maps base to data (u to x), `inverse` data to base; each returns the log-determinant of its own direction.
    With a `key`, stochastic log-determinants are random estimates; without it they are exact.

    A subclass defines `shape` (of the event), `cond_shape` (of the condition, or None) and the methods `_forward` and
    `_inverse` of one event. If coordinates are not on the whole real line, it also defines `domain` and `codomain`.

    Users call the methods without an underscore, such as `forward_and_log_det`, which check shapes and dtypes, or the
    methods of `batched`, which take leading batch axes. Bijections that contain others call `forward_batch`,
    `inverse_batch` and `push_score_batch`, which check nothing and take one event, or events along the last axis.
    By default these are `jax.vmap` of the methods for one event.

    References:
        Papamakarios et al., Normalizing Flows for Probabilistic Modeling and Inference (2021), section 2.
        https://arxiv.org/abs/1912.02762
    """

    shape: eqx.AbstractVar[tuple[int, ...]]
    cond_shape: eqx.AbstractVar[tuple[int, ...] | None]
    domain: ClassVar[Constraint] = constraints.real
    codomain: ClassVar[Constraint] = constraints.real
    # Whether `_forward`, `_inverse` and `_push_score` also take events along a last axis, with one condition for all
    # events, or one for each along its last axis. That is faster than `jax.vmap`, which puts the batch axis first, so
    # that the same coordinate of two events is far apart in memory.
    vectorized: ClassVar[bool] = False
    # The number of events of a batch that are computed at a time, to limit memory; None for all of them.
    events_at_once: ClassVar[int | None] = None
    # Whether it maps every box with the same interval in all coordinates onto itself, as a permutation does.
    keeps_intervals: ClassVar[bool] = False
    # Of coordinates that are angles the ends of their intervals, None for the others; None if there are no angles.
    circles: ClassVar[tuple[tuple[float, float] | None, ...] | None] = None

    @abc.abstractmethod
    def _forward(self, u: Array, condition: Array | None, key: PRNGKeyArray | None) -> Mapped:
        r"""$T(u)$ and $\log|\det J_T(u)|$."""

    @abc.abstractmethod
    def _inverse(self, x: Array, condition: Array | None, key: PRNGKeyArray | None) -> Mapped:
        r"""$T^{-1}(x)$ and $\log|\det J_{T^{-1}}(x)|$."""

    def _push_score(self, u: Array, score: Array, condition: Array | None) -> Pushed:
        """See `push_score`; bijections that can compute it without an inverse pass override this method."""
        if u.ndim == 0:
            return push_score_scalar(self, u, score, condition)
        x, log_det = self._forward(u, condition, None)
        frozen, fixed_condition = detach((self, condition))
        _, pull = jax.vjp(lambda x: frozen._inverse(x, fixed_condition, None), detach(x))
        return x, log_det, pull((score, jnp.ones_like(log_det)))[0]

    @property
    def stochastic(self) -> bool:
        """Whether log-determinants are random estimates when there is a key: true if this holds for any part."""
        return any(part.stochastic for part in self._parts())

    @property
    def numerical_inverse(self) -> bool:
        """Whether the inverse is iterative, which takes many evaluations: true if this holds for any part."""
        return any(part.numerical_inverse for part in self._parts())

    def _parts(self) -> list["AbstractBijection"]:
        """The bijections among the fields."""
        nodes = jax.tree.leaves(vars(self), is_leaf=lambda node: isinstance(node, AbstractBijection))
        return [node for node in nodes if isinstance(node, AbstractBijection)]

    # Methods for users: one event, with checks.

    def forward_and_log_det(
        self, u: ArrayLike, condition: ArrayLike | None = None, *, key: PRNGKeyArray | None = None
    ) -> Mapped:
        r"""$T(u)$ and $\log|\det J_T(u)|$ of one event."""
        (u,), condition = _checked(self, (u,), condition)
        return self._forward(u, condition, key)

    def inverse_and_log_det(
        self, x: ArrayLike, condition: ArrayLike | None = None, *, key: PRNGKeyArray | None = None
    ) -> Mapped:
        r"""$T^{-1}(x)$ and $\log|\det J_{T^{-1}}(x)|$ of one event."""
        (x,), condition = _checked(self, (x,), condition)
        return self._inverse(x, condition, key)

    def forward(self, u: ArrayLike, condition: ArrayLike | None = None) -> Array:
        """$T(u)$."""
        return self.forward_and_log_det(u, condition)[0]

    def inverse(self, x: ArrayLike, condition: ArrayLike | None = None) -> Array:
        """$T^{-1}(x)$."""
        return self.inverse_and_log_det(x, condition)[0]

    def push_score(self, u: ArrayLike, score: ArrayLike, condition: ArrayLike | None = None) -> Pushed:
        r"""Push a score forward: from $\nabla_u \log q_u(u)$ to $\nabla_x \log q_x(x)$ at $x = T(u)$.

        Path gradients need it. The score solves $J_T^\top s_x = s_u - \nabla_u \log|\det J_T(u)|$. The vector-Jacobian
        product of the inverse gives it for any bijection; many bijections need no inverse pass.

        Gradients flow through $x$ and the log-determinant, not through the score.

        Args:
            u: one event.
            score: the score at `u`, of the same shape.
            condition: the condition, if the bijection takes one.

        Returns:
            $x$, $\log|\det J_T(u)|$ and the score at $x$.

        References:
            Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows (2024), section 3.
            https://arxiv.org/abs/2403.15881
        """
        (u, score), condition = _checked(self, (u, score), condition)
        return self._push_score(u, score, condition)

    @property
    def batched(self) -> "Batched":
        """The same methods for arrays with leading batch axes, as in `bijection.batched.forward(u)`."""
        return Batched(self)

    # Methods for bijections that contain others: one event, or events along the last axis, without checks.

    def forward_batch(self, u: Array, condition: Array | None = None, key: PRNGKeyArray | None = None) -> Mapped:
        """`forward_and_log_det` of each event; the results also have the batch axis last.

        Args:
            u: an array of shape (*shape,) or (*shape, batch).
            condition: one for all events, or one for each along its last axis; ignored if the bijection takes none.
            key: the key for stochastic log-determinants; each event gets its own randomness.
        """
        return self._map(self._forward, (u,), condition, key)

    def inverse_batch(self, x: Array, condition: Array | None = None, key: PRNGKeyArray | None = None) -> Mapped:
        """`inverse_and_log_det` of each event, see `forward_batch`."""
        return self._map(self._inverse, (x,), condition, key)

    def push_score_batch(self, u: Array, score: Array, condition: Array | None = None) -> Pushed:
        """`push_score` of each event, see `forward_batch`."""
        return self._map(
            lambda u, score, condition, _: self._push_score(u, score, condition), (u, score), condition, None
        )

    def _map(
        self, method: Callable[..., R], arrays: tuple[Array, ...], condition: Array | None, key: PRNGKeyArray | None
    ) -> R:
        """Apply a method for one event to each event along the last axis, if there is one."""
        if self.cond_shape is None:
            condition = None  # in a chain, other parts may take one
        if self.vectorized or arrays[0].ndim == len(self.shape):
            return method(*arrays, condition, key)
        shared = condition is None or condition.ndim == len(self.cond_shape or ())
        keys = None if key is None else jr.split(key, arrays[0].shape[-1])
        if self.events_at_once is not None:
            first = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), (arrays, None if shared else condition))
            out = jax.lax.map(
                lambda event: method(*event[0], condition if shared else event[1], event[2]),
                (*first, keys),
                batch_size=self.events_at_once,
            )
            return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), out)
        axes = (*(-1 for _ in arrays), None if shared else -1, None if key is None else 0)
        return jax.vmap(method, in_axes=axes, out_axes=-1)(*arrays, condition, keys)


class Batched:
    """The methods of a bijection for arrays of shape (..., *shape) and conditions of shape (..., *cond_shape).

    The leading batch axes of events and conditions broadcast.
    """

    def __init__(self, bijection: AbstractBijection):
        self.bijection = bijection

    def forward_and_log_det(
        self, u: ArrayLike, condition: ArrayLike | None = None, *, key: PRNGKeyArray | None = None
    ) -> Mapped:
        """$T(u)$ and the log-determinant of each event; stochastic log-determinants use the `key`."""
        return self._apply(lambda condition, u: self.bijection.forward_batch(u, condition, key), condition, u)

    def inverse_and_log_det(
        self, x: ArrayLike, condition: ArrayLike | None = None, *, key: PRNGKeyArray | None = None
    ) -> Mapped:
        """$T^{-1}(x)$ and the log-determinant of each event; stochastic log-determinants use the `key`."""
        return self._apply(lambda condition, x: self.bijection.inverse_batch(x, condition, key), condition, x)

    def forward(self, u: ArrayLike, condition: ArrayLike | None = None) -> Array:
        """$T(u)$ of each event."""
        return self.forward_and_log_det(u, condition)[0]

    def inverse(self, x: ArrayLike, condition: ArrayLike | None = None) -> Array:
        """$T^{-1}(x)$ of each event."""
        return self.inverse_and_log_det(x, condition)[0]

    def push_score(self, u: ArrayLike, score: ArrayLike, condition: ArrayLike | None = None) -> Pushed:
        """$T(u)$, the log-determinant and the score of each event, see `AbstractBijection.push_score`."""
        return self._apply(
            lambda condition, u, score: self.bijection.push_score_batch(u, score, condition), condition, u, score
        )

    def _apply(self, method: Callable[..., R], condition: ArrayLike | None, *arrays: ArrayLike) -> R:
        """Apply a method for events along the last axis to all events."""
        shape, cond_shape = self.bijection.shape, self.bijection.cond_shape or ()
        events, condition = _checked(self.bijection, arrays, condition, batch=True)
        batches = [a.shape[: a.ndim - len(shape)] for a in events]
        if condition is not None:
            batches.append(condition.shape[: condition.ndim - len(cond_shape)])
        batch = np.broadcast_shapes(*batches)
        if not batch:
            return method(condition, *events)

        def batch_last(a: Array, shape: tuple[int, ...]) -> Array:
            return jnp.moveaxis(jnp.broadcast_to(a, (*batch, *shape)).reshape(math.prod(batch), *shape), 0, -1)

        if condition is not None and condition.ndim > len(cond_shape):
            condition = batch_last(condition, cond_shape)
        out = method(condition, *(batch_last(a, shape) for a in events))
        return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0).reshape(*batch, *a.shape[:-1]), out)


def _checked(
    bijection: AbstractBijection, events: tuple[ArrayLike, ...], condition: ArrayLike | None, *, batch: bool = False
) -> tuple[tuple[Array, ...], Array | None]:
    """The events and the condition in one dtype; raise if their shapes are not those of the bijection."""
    if bijection.cond_shape is None:
        condition = None
    elif condition is None:
        raise ValueError(f"{type(bijection).__name__} needs a condition of shape {bijection.cond_shape}, but got none.")
    arrays = tuple(jnp.asarray(a) for a in (*events, *(() if condition is None else (condition,))))
    dtype = common_dtype(bijection, *arrays)
    for i, array in enumerate(arrays):
        what, shape = ("an event", bijection.shape) if i < len(events) else ("a condition", bijection.cond_shape or ())
        found = array.shape[max(array.ndim - len(shape), 0) :]
        if found != tuple(shape) or (array.ndim > len(shape) and not batch):
            hint = "; for a batch use jax.vmap, or `batched`." if found == tuple(shape) else "."
            raise ValueError(
                f"{type(bijection).__name__} takes {what} of shape {tuple(shape)}, but got shape {array.shape}{hint}"
            )
    arrays = tuple(a.astype(dtype) for a in arrays)
    return arrays[: len(events)], None if condition is None else arrays[-1]


def common_dtype(bijection: AbstractBijection, *values: Array) -> jnp.dtype:
    """The promoted dtype of inputs and parameters: in loops, results must have the dtype of the inputs."""
    dtype = jnp.result_type(float, *values, *jax.tree.leaves(parameters(bijection)))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{type(bijection).__name__} takes real numbers, but got {dtype}.")
    return dtype


def no_log_det(bijection: AbstractBijection, u: Array) -> Array:
    """The log-determinant 0 for each event of `u`."""
    return jnp.zeros(u.shape[len(bijection.shape) :], u.dtype)


def push_score_scalar(
    bijection: AbstractBijection, u: Float[Array, ""], score: Float[Array, ""], condition: Array | None = None
) -> Pushed:
    r"""`push_score` of a scalar bijection: $s_x = (s_u - \partial_u \log T'(u)) / T'(u)$."""
    x, log_det = bijection._forward(u, condition, None)
    frozen, fixed_condition = detach((bijection, condition))
    slope = jax.grad(lambda u: frozen._forward(u, fixed_condition, None)[1])(detach(u))
    return x, log_det, (score - slope) * jnp.exp(-detach(log_det))
