"""Autoregressive bijections whose conditioner is a masked network."""

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import detach, num_parameters
from pushforward.bijections.autoregressive.networks import MLP, check_widths, layer_masks, with_condition
from pushforward.bijections.autoregressive.transformer import Shifts, as_slice, check_parts, transform, transform_score
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.solvers.triangular import solve_nilpotent, solve_triangular_fixed_point


class AbstractAutoregressive(AbstractBijection):
    """Shared by autoregressive bijections that transform all coordinates."""

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

    Forward costs one pass. The inverse takes Jacobi iterations (all coordinates in parallel) until convergence: at most
    `dim`, in practice few. If the transformer's inverse is numerical, it solves for one coordinate after the other
    instead: `dim` passes of the network, but only one root search per coordinate. It starts as the given transformer in
    every coordinate.
    By default each coordinate depends on all coordinates before it in an ordering; an adjacency can restrict it to some
    of them. With an ordering and layers of fewer than `dim - 1` units (with a condition, `dim`), neighbors in the
    ordering share their inputs, as in MADE; the last coordinate still depends on all.
    `Flow(base, MaskedAutoregressive(...))` samples fast (inverse autoregressive flow), and
    `Flow(base, Invert(MaskedAutoregressive(...)))` has a fast density (masked autoregressive flow).

    Args:
        transformer: a scalar bijection.
        dim: the dimension.
        hidden: the widths of the conditioner's hidden layers.
        cond_dim: the size of a condition, an input for every output.
        ordering: the coordinates, first to last; coordinate `ordering[k]` depends on those of `ordering[:k]`. By
            default 0, 1, ..., dim - 1.
        adjacency: instead of an ordering, boolean array (dim, dim), True where coordinate i of x may depend on
            coordinate j of u. It must be acyclic; its diagonal is ignored.
        activation: the activation function of the network; a module-level function.
        key: the key for the network's initial weights.

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
        ordering: Sequence[int] | Int[Array | np.ndarray, " dim"] | None = None,
        adjacency: np.ndarray | None = None,
        activation: Callable[[Array], Array] = jax.nn.silu,
    ):
        check_parts(transformer, dim, cond_dim)
        self.transformer, self.dim = transformer, dim
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        before = _adjacency(dim, ordering, adjacency)
        self.order = _order(before)
        # Coordinates that no other depends on, such as the last, are no inputs.
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
        return with_condition(u[as_slice(np.array(self.seen, int))], condition)

    def _forward(self, u, condition, key):
        x, log_slopes = transform(self.transformer, self._shifts(u, condition), u)
        return x, log_slopes.sum(0)

    def _inverse(self, x, condition, key):
        def all_in_parallel(u, args):
            bijection, x, condition = args
            return transform(bijection.transformer, bijection._shifts(u, condition), x, inverse=True)[0]

        def one(u, args, i):
            bijection, x, condition = args
            rows = i + bijection.dim * np.arange(num_parameters(bijection.transformer))
            shifts = bijection.network(bijection._inputs(u, condition), rows)
            return transform(bijection.transformer, shifts, x[i], inverse=True)[0]

        in_turn = (self.order, one) if self.transformer.numerical_inverse else None
        u = solve_triangular_fixed_point(all_in_parallel, x, (self, x, condition), in_turn=in_turn)
        return u, -self._forward(u, condition, None)[1]

    def _push_score(self, u, score, condition):
        shifts = self._shifts(u, condition)
        x, log_slopes, local = transform_score(self.transformer, shifts, u, score)
        # J is diagonal plus strictly triangular: subtract the terms of later coordinates from the elementwise score.
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
    """Raise if layers are too narrow: with `all_of_it`, if any dependence would be lost; otherwise, if any input would
    have no effect.
    """
    check_widths(hidden)
    reached = functools.reduce(lambda below, mask: mask.astype(int) @ below > 0, layer_masks(sees, hidden))
    enough = f"{len(np.unique(sees, axis=0))} units per layer are enough"
    lost = np.flatnonzero((sees & ~reached).any(1))
    if all_of_it and lost.size:
        raise ValueError(
            f"hidden={tuple(hidden)} is too narrow for this adjacency: the coordinates {lost.tolist()} would not "
            f"depend on all their parents; {enough}."
        )
    if not reached.any(0).all():
        raise ValueError(f"hidden={tuple(hidden)} is too narrow: some inputs would affect no coordinate; {enough}.")


def _adjacency(
    dim: int, ordering: Sequence[int] | Int[Array | np.ndarray, " dim"] | None, adjacency: np.ndarray | None
) -> np.ndarray:
    """[i, j] is True where coordinate i may depend on j."""
    if adjacency is None:
        order = np.arange(dim) if ordering is None else np.atleast_1d(ordering)
        if sorted(order.tolist()) != list(range(dim)):
            raise ValueError(f"an ordering must contain each of 0, ..., {dim - 1} once, but got {order.tolist()}.")
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
    """The coordinates in topological order: each after all that it depends on."""
    order, left = [], np.ones(len(sees), bool)
    while (ready := left & ~sees[:, left].any(1)).any():
        order += np.flatnonzero(ready).tolist()
        left &= ~ready
    if left.any():
        raise ValueError(
            f"the adjacency must be acyclic, but there is a cycle among the coordinates "
            f"{np.flatnonzero(left).tolist()}."
        )
    return tuple(order)
