"""Compositions of bijections: chained, repeated, side by side, applied to each coordinate."""

import abc
import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import ArrayLike, map_scalars, num_parameters, shift_arrays
from pushforward.bijections.base import AbstractBijection, no_log_det, push_score_scalar
from pushforward.bijections.checks import check_bijections, check_sizes, check_transformer
from pushforward.bijections.intervals import bounds, same_interval


class Identity(AbstractBijection):
    """$x = u$.

    Args:
        shape: the shape of an event.
    """

    keeps_intervals: ClassVar[bool] = True
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, shape: tuple[int, ...] = ()):
        self.shape = tuple(shape)

    def _forward(self, u, condition, key):
        return u, no_log_det(self, u)

    def _inverse(self, x, condition, key):
        return x, no_log_det(self, x)


class _Composition(AbstractBijection):
    """Shared by Chain and Scan: each method is a fold over the parts that composes maps and adds log-determinants."""

    vectorized: ClassVar[bool] = True

    @abc.abstractmethod
    def _fold(self, apply: Callable, arrays: tuple[Array, ...], key: PRNGKeyArray | None, reverse: bool):
        """Fold `apply(part, arrays, key) -> (x, log_det, *others)`, where (x, *others) are the next part's arrays."""

    def _forward(self, u, condition, key):
        return self._fold(lambda part, u, k: part.forward_batch(*u, condition, k), (u,), key, False)

    def _inverse(self, x, condition, key):
        return self._fold(lambda part, x, k: part.inverse_batch(*x, condition, k), (x,), key, True)

    def _push_score(self, u, score, condition):
        return self._fold(lambda part, arrays, _: part.push_score_batch(*arrays, condition), (u, score), None, False)


class Chain(_Composition):
    r"""The composition $T = T_K \circ \dots \circ T_1$ of bijections.

    The domain of each must be the codomain of the one before it.

    Args:
        bijections: $T_1, \dots, T_K$: the first is applied first in the forward direction.
    """

    bijections: tuple[AbstractBijection, ...]

    def __init__(self, bijections: Sequence[AbstractBijection]):
        self.bijections = tuple(bijections)
        check_bijections("Chain", *self.bijections)
        shapes = [b.shape for b in self.bijections]
        if not shapes or any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"Chain needs one or more bijections of one shape, but got shapes {shapes}.")
        # Parts that keep intervals pass them on, if these are the same for all coordinates.
        mapping = [(i, b) for i, b in enumerate(self.bijections) if not b.keeps_intervals]
        for (i, first), (j, then) in itertools.pairwise(mapping):
            if not same_interval(then.domain, first.codomain):
                raise ValueError(
                    f"part {i} of the chain, {type(first).__name__}, has codomain {first.codomain}, which is not "
                    f"the domain {then.domain} of part {j}, {type(then).__name__}."
                )
        for (i, first), (j, then) in itertools.pairwise(enumerate(self.bijections)):
            if then.keeps_intervals and not first.keeps_intervals:
                _check_even(first.codomain, i, first, j, then)
            if first.keeps_intervals and not then.keeps_intervals:
                _check_even(then.domain, j, then, i, first)
        merge_cond_shapes(self.bijections)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bijections[0].shape

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return merge_cond_shapes(self.bijections)

    @property
    def domain(self) -> Constraint:
        return next((b.domain for b in self.bijections if not b.keeps_intervals), constraints.real)

    @property
    def codomain(self) -> Constraint:
        return next((b.codomain for b in self.bijections[::-1] if not b.keeps_intervals), constraints.real)

    @property
    def keeps_intervals(self) -> bool:
        return all(b.keeps_intervals for b in self.bijections)

    def _fold(self, apply, arrays, key, reverse):
        parts = self.bijections[::-1] if reverse else self.bijections
        keys = [None] * len(parts) if key is None else jax.random.split(key, len(parts))
        total = 0.0
        for part, k in zip(parts, keys, strict=True):
            x, log_det, *others = apply(part, arrays, k)
            arrays, total = (x, *others), total + log_det
        return arrays[0], total, *arrays[1:]


def _check_even(interval: Constraint, i: int, part: AbstractBijection, j: int, other: AbstractBijection) -> None:
    """Raise if the intervals of coordinates differ, and the neighbor may reorder coordinates."""
    if any(np.unique(end).size > 1 for end in bounds(interval)):
        raise ValueError(
            f"part {i} of the chain, {type(part).__name__}, has the interval {interval}, which is not the same for all "
            f"coordinates; part {j}, {type(other).__name__}, may reorder coordinates and must not be next to it."
        )


class Scan(_Composition):
    """A chain of layers of equal structure, of which only one is compiled.

    The layers' arrays are stacked along a new first axis; `jax.lax.scan` applies them.

    Args:
        layers: bijections that differ only in the values of their arrays.
    """

    stacked: AbstractBijection
    num_layers: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, layers: Sequence[AbstractBijection]):
        layers = tuple(layers)
        check_bijections("Scan", *layers)
        if not layers:
            raise ValueError("Scan needs one or more layers, but got none.")
        arrays, static = zip(*(eqx.partition(layer, eqx.is_array) for layer in layers), strict=True)
        kinds = [jax.tree.map(lambda a: (a.shape, a.dtype), a) for a in arrays]
        for i in range(1, len(layers)):
            if not eqx.tree_equal(static[0], static[i]) or not eqx.tree_equal(kinds[0], kinds[i]):
                raise ValueError(
                    f"Scan needs layers of equal structure, but layer {i} differs from layer 0 in more than the values "
                    f"of its arrays; use Chain for layers of different structure."
                )
        domain, codomain = layers[0].domain, layers[0].codomain
        if not same_interval(domain, codomain):
            raise ValueError(
                f"Scan needs layers that map their domain onto itself, but {type(layers[0]).__name__} maps {domain} "
                f"onto {codomain}."
            )
        self.num_layers = len(layers)
        self.stacked = eqx.combine(jax.tree.map(lambda *a: jnp.stack(a), *arrays), static[0])
        # Of a single layer: a property may read the shape from arrays, which are stacked here.
        self.shape, self.cond_shape = layers[0].shape, layers[0].cond_shape

    @classmethod
    def each(cls, layer: Callable[..., AbstractBijection], *arguments: Array) -> "Scan":
        """Layers that are built together, which is faster than one by one.

        Args:
            layer: a function that builds a layer.
            *arguments: its arguments, such as keys, of all layers along a first axis.
        """
        stacked = eqx.filter_vmap(layer)(*arguments)
        arrays, static = eqx.partition(stacked, eqx.is_array)
        first = eqx.combine(jax.tree.map(lambda a: a[0], arrays), static)
        return eqx.tree_at(lambda scan: scan.stacked, cls([first] * len(arguments[0])), stacked)

    @property
    def domain(self) -> Constraint:
        return self.stacked.domain

    @property
    def codomain(self) -> Constraint:
        return self.stacked.codomain

    @property
    def keeps_intervals(self) -> bool:
        return self.stacked.keeps_intervals

    def __len__(self) -> int:
        return self.num_layers

    def _fold(self, apply, arrays, key, reverse):
        layers, static = eqx.partition(self.stacked, eqx.is_array)
        keys = None if key is None else jax.random.split(key, len(self))

        def body(arrays, layer_and_key):
            layer, k = layer_and_key
            x, log_det, *others = apply(eqx.combine(layer, static), arrays, k)
            return (x, *others), log_det

        arrays, log_dets = jax.lax.scan(body, arrays, (layers, keys), length=len(self), reverse=reverse)
        return arrays[0], log_dets.sum(0), *arrays[1:]


class Elementwise(AbstractBijection):
    """A scalar bijection applied to each coordinate of a vector; each coordinate has its own arrays.

    Args:
        bijection: a scalar bijection; its arrays are the initial arrays of each coordinate.
        dim: the number of coordinates.
    """

    scalars: AbstractBijection
    dim: int = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, bijection: AbstractBijection, dim: int):
        check_transformer(bijection)
        check_sizes(dim=dim)
        self.scalars = shift_arrays(bijection, jnp.zeros((num_parameters(bijection), dim)))
        self.dim = dim

    @classmethod
    def each(cls, scalar: Callable[..., AbstractBijection], *parameters: ArrayLike) -> "Elementwise":
        """A scalar bijection for each coordinate, with different parameters.

        Args:
            scalar: the class of the scalar bijection.
            *parameters: the arguments of its constructor: arrays with one entry for each coordinate.
        """
        arrays = [jnp.asarray(parameter, float) for parameter in parameters]
        return eqx.tree_at(lambda b: b.scalars, cls(scalar(), len(arrays[0])), eqx.filter_vmap(scalar)(*arrays))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def domain(self) -> Constraint:
        return self.scalars.domain

    @property
    def codomain(self) -> Constraint:
        return self.scalars.codomain

    def _each(self, method: Callable, *args: Array):
        return map_scalars(method, self.scalars, *args, shared=args[0].ndim - 1)

    def _forward(self, u, condition, key):
        x, log_det = self._each(lambda b, u: b._forward(u, None, None), u)
        return x, log_det.sum(0)

    def _inverse(self, x, condition, key):
        u, log_det = self._each(lambda b, x: b._inverse(x, None, None), x)
        return u, log_det.sum(0)

    def _push_score(self, u, score, condition):
        x, log_det, score = self._each(push_score_scalar, u, score)
        return x, log_det.sum(0), score


class Concatenate(AbstractBijection):
    r"""Bijections of vectors side by side: $x = (T_1(u_1), \dots, T_K(u_K))$ for $u = (u_1, \dots, u_K)$.

    The log-determinant is the sum of theirs.

    Args:
        bijections: $T_1, \dots, T_K$, bijections of vectors: the first acts on the first coordinates, and so on.
    """

    bijections: tuple[AbstractBijection, ...]
    vectorized: ClassVar[bool] = True

    def __init__(self, bijections: Sequence[AbstractBijection]):
        self.bijections = tuple(bijections)
        check_bijections("Concatenate", *self.bijections)
        shapes = [b.shape for b in self.bijections]
        if not shapes or any(len(shape) != 1 for shape in shapes):
            raise ValueError(f"Concatenate needs one or more bijections of vectors, but got shapes {shapes}.")
        merge_cond_shapes(self.bijections)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(b.shape[0] for b in self.bijections),)

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return merge_cond_shapes(self.bijections)

    @property
    def domain(self) -> Constraint:
        return self._side_by_side([b.domain for b in self.bijections])

    @property
    def codomain(self) -> Constraint:
        return self._side_by_side([b.codomain for b in self.bijections])

    @property
    def keeps_intervals(self) -> bool:
        return all(b.keeps_intervals for b in self.bijections)

    def _side_by_side(self, parts: Sequence[Constraint]) -> Constraint:
        if all(same_interval(part, parts[0]) for part in parts):
            return parts[0]
        ends = [
            [np.broadcast_to(end, b.shape) for end in bounds(p)] for b, p in zip(self.bijections, parts, strict=True)
        ]
        return constraints.interval(*map(np.concatenate, zip(*ends, strict=True)))

    def _each(self, apply: Callable, key: PRNGKeyArray | None, *arrays: Array):
        ends = np.cumsum([b.shape[0] for b in self.bijections])[:-1]
        parts = zip(*(jnp.split(a, ends) for a in arrays), strict=True)
        keys = [None] * len(self.bijections) if key is None else jax.random.split(key, len(self.bijections))
        results = [apply(b, *a, k) for b, a, k in zip(self.bijections, parts, keys, strict=True)]
        x, log_dets, *others = zip(*results, strict=True)
        return jnp.concatenate(x), sum(log_dets), *map(jnp.concatenate, others)

    def _forward(self, u, condition, key):
        return self._each(lambda b, u, k: b.forward_batch(u, condition, k), key, u)

    def _inverse(self, x, condition, key):
        return self._each(lambda b, x, k: b.inverse_batch(x, condition, k), key, x)

    def _push_score(self, u, score, condition):
        return self._each(lambda b, u, score, _: b.push_score_batch(u, score, condition), None, u, score)


def merge_cond_shapes(bijections: Sequence[AbstractBijection]) -> tuple[int, ...] | None:
    """The condition shape that all conditional bijections share, or None if all are unconditional."""
    shapes = {b.cond_shape for b in bijections if b.cond_shape is not None}
    if len(shapes) > 1:
        raise ValueError(f"all parts must take a condition of the same shape, but got {sorted(shapes)}.")
    return next(iter(shapes), None)
