"""Couplings: some coordinates condition the transformer of the others."""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import detach, num_parameters
from pushforward.bijections.autoregressive.networks import MLP, LocalMLPs, with_condition
from pushforward.bijections.autoregressive.transformer import (
    Shifts,
    as_slice,
    check_parts,
    indices_where,
    shift_cotangents,
    transform,
    transform_score,
)
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.composition import Elementwise, Identity
from pushforward.bijections.intervals import bounds

T = TypeVar("T")


class Coupling(AbstractBijection):
    r"""Some coordinates stay unchanged and condition the transformer of the others:
    $x_a = u_a$, $x_b = \tau(u_b;\, c(u_a))$.

    Both directions cost one pass of the network. It starts as the given transformer in every coordinate of b.
    With `transform_head`, the coordinates of a are transformed too, with their own arrays, which depend on no other
    coordinate and no condition: $x_i = \tau(u_i; \theta_i)$.

    Args:
        transformer: a scalar bijection.
        dim: the dimension.
        hidden: the widths of the conditioner's hidden layers.
        mask: True for the coordinates of a; by default the first `dim // 2`.
        transform_head: whether the coordinates of a are transformed rather than unchanged.
        angles: True for coordinates that are angles: the network takes their cosines and sines.
        cond_dim: the size of a condition, a further input of the network.
        activation: the activation function of the network; a module-level function.
        conditioner: builds another network from the number of its inputs, the number of its outputs and a key; an
            Equinox module that maps arrays (inputs, \*batch) to arrays (outputs, \*batch). By default an `MLP`.
        key: the key for the network's initial weights.

    References:
        Dinh et al., Density Estimation Using Real NVP (2017), section 3.2. https://arxiv.org/abs/1605.08803
        Papamakarios et al. (2021), section 3.1.2.
    """

    transformer: AbstractBijection
    head: AbstractBijection
    network: Callable[..., Array]
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
        mask: Sequence[bool] | Bool[Array | np.ndarray, " dim"] | None = None,
        transform_head: bool = False,
        angles: Sequence[bool] | Bool[Array | np.ndarray, " dim"] | None = None,
        cond_dim: int | None = None,
        activation: Callable[[Array], Array] = jax.nn.silu,
        conditioner: Callable[[int, int, PRNGKeyArray], Callable[[Array], Array]] | None = None,
    ):
        check_parts(transformer, dim, cond_dim)
        passes = np.arange(dim) < dim // 2 if mask is None else np.asarray(mask)
        if passes.shape != (dim,) or passes.dtype != bool:
            raise ValueError(
                f"the mask must hold {dim} booleans, but has shape {passes.shape} and dtype {passes.dtype}."
            )
        if passes.all() or (dim > 1 and not passes.any()):
            raise ValueError(
                f"the mask must be True for some coordinates and not for all, but all are {bool(passes.all())} "
                f"(dim={dim})."
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
        if conditioner is None:
            self.network = MLP(inputs, outputs, hidden, key=key, activation=activation)
        else:
            self.network = conditioner(inputs, outputs, key)
            found = eqx.filter_eval_shape(self.network, jnp.zeros((inputs, 2))).shape
            if found != (outputs, 2):
                raise ValueError(
                    f"the network of conditioner must map arrays ({inputs}, 2) to ({outputs}, 2), but its result has "
                    f"shape {found}."
                )

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
        """One constraint for the coordinates of a, and one for the others."""
        if head is tail:
            return tail
        lower, upper = zip(bounds(head), bounds(tail), strict=True)
        return constraints.interval(np.where(self.mask, *lower), np.where(self.mask, *upper))

    def _split(self, u: Array) -> tuple[Array, Array]:
        mask = np.array(self.mask)
        return u[indices_where(mask)], u[indices_where(~mask)]

    def _join(self, head: Array, tail: Array) -> Array:
        back = np.argsort(np.argsort(~np.array(self.mask), kind="stable"))
        return jnp.concatenate([head, tail])[as_slice(back)]

    def _shifts(self, head: Array, condition: Array | None) -> Shifts:
        turning = np.array(self.angles)[np.array(self.mask)]
        seen = head
        if turning.any():
            others, angles = head[indices_where(~turning)], head[indices_where(turning)]
            seen = jnp.concatenate([others, jnp.cos(angles), jnp.sin(angles)])
        return self.network(with_condition(seen, condition)).reshape(
            num_parameters(self.transformer), len(self.mask) - len(head), *head.shape[1:]
        )

    def _forward(self, u, condition, key):
        head, tail = self._split(u)
        tail, log_slopes = transform(self.transformer, self._shifts(head, condition), tail)
        head, log_det = self.head.forward_batch(head)
        return self._join(head, tail), log_slopes.sum(0) + log_det

    def _inverse(self, x, condition, key):
        head, tail = self._split(x)
        head, log_det = self.head.inverse_batch(head)
        tail, log_slopes = transform(self.transformer, self._shifts(head, condition), tail, inverse=True)
        return self._join(head, tail), log_slopes.sum(0) + log_det

    def _push_score(self, u, score, condition):
        (head, tail), (head_score, tail_score) = self._split(u), self._split(score)
        shifts = self._shifts(head, condition)
        x_tail, log_slopes, tail_score = transform_score(self.transformer, shifts, tail, tail_score)
        # Subtract from the head's score the dependence of the tail and the log-determinant on it, through the network.
        frozen, condition = detach((self, condition))
        _, pull = jax.vjp(lambda head: frozen._shifts(head, condition), detach(head))
        head_score = head_score - pull(shift_cotangents(self.transformer, shifts, tail, tail_score))[0]
        x_head, log_det, head_score = self.head.push_score_batch(head, head_score)
        return self._join(x_head, x_tail), log_slopes.sum(0) + log_det, self._join(head_score, tail_score)


def with_float32_networks(model: T) -> T:
    """A model whose couplings compute their networks in float32, which takes about two thirds of the time of a step.

    Networks of other bijections, and those that users write, stay as they are: only a coupling's inverse is exact for
    any network.

    Args:
        model: a tree with couplings.
    """

    def lower(node):
        if not isinstance(node, Coupling) or not isinstance(node.network, MLP | LocalMLPs):
            return node
        return eqx.tree_at(lambda coupling: coupling.network, node, replace_fn=_InFloat32)

    return jax.tree.map(lower, model, is_leaf=lambda node: isinstance(node, Coupling))


class _InFloat32(eqx.Module):
    """A network that is computed in float32, from inputs and to outputs of another precision."""

    network: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        both = self.network, x
        network, low = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, both)
        return network(low).astype(x.dtype)
