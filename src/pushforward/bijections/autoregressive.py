r"""Autoregressive bijections $x_i = \tau(u_i;\, c_i(u_{<i}))$: any transformer with any conditioner.

The transformer $\tau$ is a scalar bijection; the conditioner $c$ is a network that supplies its arrays, by
`shift_arrays`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.base import (
    AbstractBijection,
    bounds,
    check_sizes,
    check_transformer,
    detach,
    map_scalars,
    num_parameters,
    push_score_scalar,
    shift_arrays,
)
from pushforward.bijections.composition import Elementwise, Identity
from pushforward.bijections.conditioners import MLP, check_widths, layer_masks, with_condition
from pushforward.bijections.inversion import solve_nilpotent, solve_triangular_fixed_point

# A transformer's arrays for every coordinate, raveled.
Shifts = Float[Array, "parameters dim *batch"]


def transform(transformer: AbstractBijection, shifts: Shifts, u: Array, *, inverse: bool = False):
    """Apply the transformer to each coordinate; the log-derivatives are returned unsummed."""

    def one(bijection, u):
        return bijection.inverse_and_log_det(u) if inverse else bijection.forward_and_log_det(u)

    return map_scalars(one, shift_arrays(transformer, shifts), u)


def _transform_score(transformer: AbstractBijection, shifts: Shifts, u: Array, score: Array):
    return map_scalars(push_score_scalar, shift_arrays(transformer, shifts), u, score)


def _shift_cotangents(transformer: AbstractBijection, shifts: Shifts, u: Array, score: Array) -> Shifts:
    """The gradient of score . x + log-derivatives by the shifts, all else held fixed."""
    transformer, shifts, u = detach((transformer, shifts, u))
    _, pull = jax.vjp(lambda p: transform(transformer, p, u), shifts)
    return pull((score, jnp.ones_like(score)))[0]


def check_parts(transformer: AbstractBijection, dim: int, cond_dim: int | None) -> None:
    """Raise unless a conditioner can supply the transformer's arrays, and sizes are positive."""
    check_transformer(transformer)
    if not num_parameters(transformer):
        name = type(transformer).__name__
        raise ValueError(
            f"a conditioner supplies the arrays of its transformer, but {name} has none; use "
            f"Elementwise({name}(), dim) or, as the transformer, Chain([Affine(), {name}()])."
        )
    check_sizes(dim=dim, cond_dim=cond_dim)


class Coupling(AbstractBijection):
    r"""Some coordinates pass as they are and supply the transformer of the others:
    $x_a = u_a$, $x_b = \tau(u_b;\, c(u_a))$.

    Both directions cost one pass of the network. At first it is the transformer as given, in every coordinate of b.
    With `transform_head`, the coordinates of a go through the transformer too, with arrays of their own that depend on
    nothing: $x_i = \tau(u_i; \theta_i)$.

    Args:
        transformer: a scalar bijection.
        dim: the dimension.
        hidden: widths of the conditioner's hidden layers.
        mask: True for the coordinates that pass; by default the first `dim // 2`.
        transform_head: whether those are transformed by constants, rather than left as they are.
        angles: True for coordinates that are angles: the network sees their cosines and sines.
        cond_dim: the size of a condition that the network sees too.
        activation: of the network; a module-level function.
        key: for the network's initial weights.

    References:
        Dinh et al., Density Estimation Using Real NVP (2017), section 3.2. https://arxiv.org/abs/1605.08803
        Papamakarios et al. (2021), section 3.1.2.
    """

    transformer: AbstractBijection
    head: AbstractBijection
    network: MLP
    mask: tuple[bool, ...] = eqx.field(static=True)
    angles: tuple[bool, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    vectorized: ClassVar[bool] = True

    def __init__(
        self,
        transformer: AbstractBijection,
        dim: int,
        *,
        key: PRNGKeyArray,
        hidden: Sequence[int] = (64, 64),
        mask: Sequence[bool] | None = None,
        transform_head: bool = False,
        angles: Sequence[bool] | None = None,
        cond_dim: int | None = None,
        activation: Callable[[Array], Array] = jax.nn.silu,
    ):
        check_parts(transformer, dim, cond_dim)
        passes = np.arange(dim) < dim // 2 if mask is None else np.asarray(mask)
        if passes.shape != (dim,) or passes.dtype != bool:
            raise ValueError(
                f"the mask must hold {dim} booleans, but has shape {passes.shape} and dtype {passes.dtype}."
            )
        if passes.all() or (dim > 1 and not passes.any()):
            raise ValueError(
                f"the mask must let some coordinates pass and not all, but all are {bool(passes.all())} (dim={dim})."
            )
        turning = np.zeros(dim, bool) if angles is None else np.asarray(angles)
        if turning.shape != (dim,) or turning.dtype != bool:
            raise ValueError(
                f"angles must hold {dim} booleans, but has shape {turning.shape} and dtype {turning.dtype}."
            )
        self.transformer = transformer
        self.mask, self.angles = tuple(passes.tolist()), tuple(turning.tolist())
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        size = int(passes.sum())
        self.head = Elementwise(transformer, size) if transform_head and size else Identity((size,))
        outputs = num_parameters(transformer) * (dim - size)
        inputs = size + int((passes & turning).sum()) + (cond_dim or 0)
        self.network = MLP(inputs, outputs, hidden, key=key, activation=activation)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.mask),)

    @property
    def domain(self) -> Constraint:
        return self._beside(self.head.domain, self.transformer.domain)

    @property
    def codomain(self) -> Constraint:
        return self._beside(self.head.codomain, self.transformer.codomain)

    def _beside(self, head: Constraint, tail: Constraint) -> Constraint:
        """One constraint for the coordinates that pass, and one for the others."""
        if head is tail:
            return tail
        lower, upper = zip(bounds(head), bounds(tail), strict=True)
        return constraints.interval(np.where(self.mask, *lower), np.where(self.mask, *upper))

    def _split(self, u: Array) -> tuple[Array, Array]:
        mask = np.array(self.mask)
        return u[_indices(mask)], u[_indices(~mask)]

    def _join(self, head: Array, tail: Array) -> Array:
        back = np.argsort(np.argsort(~np.array(self.mask), kind="stable"))
        return jnp.concatenate([head, tail])[_indices_of(back)]

    def _shifts(self, head: Array, condition: Array | None) -> Shifts:
        turning = np.array(self.angles)[np.array(self.mask)]
        seen = head
        if turning.any():
            others, angles = head[_indices(~turning)], head[_indices(turning)]
            seen = jnp.concatenate([others, jnp.cos(angles), jnp.sin(angles)])
        return self.network(with_condition(seen, condition)).reshape(
            num_parameters(self.transformer), len(self.mask) - len(head), *head.shape[1:]
        )

    def forward_and_log_det(self, u, condition=None, *, key=None):
        head, tail = self._split(u)
        tail, log_slopes = transform(self.transformer, self._shifts(head, condition), tail)
        head, log_det = self.head.forward_and_log_det(head)
        return self._join(head, tail), log_slopes.sum(0) + log_det

    def inverse_and_log_det(self, x, condition=None, *, key=None):
        head, tail = self._split(x)
        head, log_det = self.head.inverse_and_log_det(head)
        tail, log_slopes = transform(self.transformer, self._shifts(head, condition), tail, inverse=True)
        return self._join(head, tail), log_slopes.sum(0) + log_det

    def push_score(self, u, score, condition=None):
        (head, tail), (head_score, tail_score) = self._split(u), self._split(score)
        shifts = self._shifts(head, condition)
        x_tail, log_slopes, tail_score = _transform_score(self.transformer, shifts, tail, tail_score)
        # The head's score loses what the tail and the log-determinant owe to the head, through the network.
        frozen, condition = detach((self, condition))
        _, pull = jax.vjp(lambda head: frozen._shifts(head, condition), detach(head))
        head_score = head_score - pull(_shift_cotangents(self.transformer, shifts, tail, tail_score))[0]
        x_head, log_det, head_score = self.head.push_score(head, head_score)
        return self._join(x_head, x_tail), log_slopes.sum(0) + log_det, self._join(head_score, tail_score)


def _indices(mask: np.ndarray) -> slice | np.ndarray:
    return _indices_of(np.flatnonzero(mask))


def _indices_of(indices: np.ndarray) -> slice | np.ndarray:
    """A slice where one will do: XLA copies slices, and gathers and scatters the rest element by element."""
    if indices.size and np.array_equal(indices, np.arange(indices[0], indices[0] + indices.size)):
        return slice(int(indices[0]), int(indices[0]) + indices.size)
    return indices


class AbstractAutoregressive(AbstractBijection):
    """What those share that transform all coordinates."""

    transformer: eqx.AbstractVar[AbstractBijection]
    dim: eqx.AbstractVar[int]
    vectorized: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def domain(self) -> Constraint:
        return self.transformer.domain

    @property
    def codomain(self) -> Constraint:
        return self.transformer.codomain


class MaskedAutoregressive(AbstractAutoregressive):
    r"""$x_i = \tau(u_i;\, c_i(u_{<i}))$ for all $i$ in one pass of a masked network.

    Forward costs one pass. The inverse solves for all coordinates together in parallel sweeps, which end when nothing
    moves: at most `dim` of them, in practice few. If the transformer's own inverse is numerical, it solves for one
    coordinate after the other instead, which takes `dim` passes of the network but one root for each. At first it is
    the transformer as given, in every coordinate.
    Instead of all that come before it in an ordering, each coordinate may see those that an adjacency names. With an
    ordering, layers of fewer than `dim - 1` units (with a condition, `dim`) make nearby orders share their inputs, as
    in MADE; the last still sees all.
    `Flow(base, MaskedAutoregressive(...))` samples fast (inverse autoregressive flow), and
    `Flow(base, Invert(MaskedAutoregressive(...)))` has a fast density (masked autoregressive flow).

    Args:
        transformer: a scalar bijection.
        dim: the dimension.
        hidden: widths of the conditioner's hidden layers.
        cond_dim: the size of a condition that every output sees.
        ordering: the coordinates, first to last; coordinate `ordering[k]` sees those of `ordering[:k]`. By default
            0, 1, ..., dim - 1.
        adjacency: instead of an ordering, boolean array (dim, dim), True where coordinate i of x may depend on
            coordinate j of u. There must be an ordering that it agrees with; its diagonal plays no part.
        activation: of the network; a module-level function.
        key: for the network's initial weights.

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
        Papamakarios et al., Masked Autoregressive Flow for Density Estimation (2017).
        https://arxiv.org/abs/1705.07057
        Wehenkel and Louppe, Graphical Normalizing Flows (2021), section 3. https://arxiv.org/abs/2006.02548
    """

    transformer: AbstractBijection
    network: MLP
    dim: int = eqx.field(static=True)
    seen: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    numerical_inverse: ClassVar[bool] = True

    def __init__(
        self,
        transformer: AbstractBijection,
        dim: int,
        *,
        key: PRNGKeyArray,
        hidden: Sequence[int] = (64, 64),
        cond_dim: int | None = None,
        ordering: Sequence[int] | None = None,
        adjacency: np.ndarray | None = None,
        activation: Callable[[Array], Array] = jax.nn.silu,
    ):
        check_parts(transformer, dim, cond_dim)
        self.transformer, self.dim = transformer, dim
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        before = _adjacency(dim, ordering, adjacency)
        self.order = _order(before)
        # Coordinates that no other depends on, as the last, are not among the inputs.
        self.seen = tuple(np.flatnonzero(before.any(0)).tolist())
        sees = np.concatenate([before[:, self.seen], np.ones((dim, cond_dim or 0), bool)], axis=1)
        _check_width(sees, hidden, all_of_it=adjacency is not None)
        self.network = MLP(
            sees.shape[1],
            num_parameters(transformer) * dim,
            hidden,
            key=key,
            activation=activation,
            adjacency=np.tile(sees, (num_parameters(transformer), 1)),
        )

    def _shifts(self, u: Array, condition: Array | None) -> Shifts:
        shifts = self.network(self._inputs(u, condition))
        return shifts.reshape(num_parameters(self.transformer), *u.shape)

    def _inputs(self, u: Array, condition: Array | None) -> Array:
        return with_condition(u[_indices_of(np.array(self.seen, int))], condition)

    def forward_and_log_det(self, u, condition=None, *, key=None):
        x, log_slopes = transform(self.transformer, self._shifts(u, condition), u)
        return x, log_slopes.sum(0)

    def inverse_and_log_det(self, x, condition=None, *, key=None):
        def sweep(u, args):
            bijection, x, condition = args
            return transform(bijection.transformer, bijection._shifts(u, condition), x, inverse=True)[0]

        def one(u, args, i):
            bijection, x, condition = args
            rows = i + bijection.dim * np.arange(num_parameters(bijection.transformer))
            shifts = bijection.network(bijection._inputs(u, condition), rows)
            return transform(bijection.transformer, shifts, x[i], inverse=True)[0]

        in_turn = (self.order, one) if self.transformer.numerical_inverse else None
        u = solve_triangular_fixed_point(sweep, x, (self, x, condition), in_turn=in_turn)
        return u, -self.forward_and_log_det(u, condition)[1]

    def push_score(self, u, score, condition=None):
        shifts = self._shifts(u, condition)
        x, log_slopes, local = _transform_score(self.transformer, shifts, u, score)
        # J is diagonal plus strictly triangular, so the score is the local one less what later coordinates owe.
        frozen, frozen_shifts, fixed_u, fixed_condition = detach((self, shifts, u, condition))
        slopes = jnp.exp(detach(log_slopes))
        _, through_network = jax.vjp(lambda u: frozen._shifts(u, fixed_condition), fixed_u)
        _, through_transformer = jax.vjp(lambda p: transform(frozen.transformer, p, fixed_u), frozen_shifts)

        def owed(score, log_slope_weight):
            return -through_network(through_transformer((score, log_slope_weight))[0])[0] / slopes

        zeros = jnp.zeros_like(slopes)
        start = local + owed(zeros, zeros + 1)
        return x, log_slopes.sum(0), solve_nilpotent(lambda s: owed(s, zeros), start)


def _check_width(sees: np.ndarray, hidden: Sequence[int], all_of_it: bool) -> None:
    """Raise if layers are too narrow to hold all the sets of parents, so that some dependence would be lost; unless
    `all_of_it` is asked for, only if an input would be seen by none.
    """
    check_widths(hidden)
    reached = functools.reduce(lambda below, mask: mask.astype(int) @ below > 0, layer_masks(sees, hidden))
    enough = f"{len(np.unique(sees, axis=0))} units a layer are enough"
    lost = np.flatnonzero((sees & ~reached).any(1))
    if all_of_it and lost.size:
        raise ValueError(
            f"hidden={tuple(hidden)} is too narrow for this adjacency: the coordinates {lost.tolist()} would not see "
            f"all that they may; {enough}."
        )
    if not reached.any(0).all():
        raise ValueError(f"hidden={tuple(hidden)} is too narrow: some inputs would be seen by no coordinate; {enough}.")


def _adjacency(dim: int, ordering: Sequence[int] | None, adjacency: np.ndarray | None) -> np.ndarray:
    """[i, j] is True where coordinate i may depend on j."""
    if adjacency is None:
        order = np.arange(dim) if ordering is None else np.atleast_1d(ordering)
        if sorted(order.tolist()) != list(range(dim)):
            raise ValueError(f"an ordering holds each of 0, ..., {dim - 1} once, but got {order.tolist()}.")
        place = np.argsort(order)
        return place[None, :] < place[:, None]
    if ordering is not None:
        raise ValueError("give an ordering or an adjacency, not both.")
    given = np.asarray(adjacency)
    if given.shape != (dim, dim) or given.dtype != bool:
        raise ValueError(
            f"the adjacency must hold {dim} x {dim} booleans, but has shape {given.shape} and dtype {given.dtype}."
        )
    return given & ~np.eye(dim, dtype=bool)


def _order(sees: np.ndarray) -> tuple[int, ...]:
    """The coordinates, each after all that it sees."""
    order, left = [], np.ones(len(sees), bool)
    while (ready := left & ~sees[:, left].any(1)).any():
        order += np.flatnonzero(ready).tolist()
        left &= ~ready
    if left.any():
        raise ValueError(
            f"the adjacency must agree with some ordering, but the coordinates {np.flatnonzero(left).tolist()} depend "
            "on one another in a circle."
        )
    return tuple(order)
