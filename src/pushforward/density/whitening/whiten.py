"""From whitened coordinates to samples: what is learned is only what is left."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.linalg
from jaxtyping import ArrayLike, Bool, Float, PRNGKeyArray

from pushforward.bijections import (
    MLP,
    AbstractBijection,
    Affine,
    Amortized,
    Chain,
    Elementwise,
    OntoBox,
    RescaledCondition,
    Shift,
    SinhArcsinh,
    Triangular,
)
from pushforward.density.data.column_warnings import warn_of_determined
from pushforward.density.data.columns import Circle
from pushforward.density.data.source import Source
from pushforward.density.whitening.moments import Moments
from pushforward.density.whitening.regression import Linear, Residual, Square, Weights, own_tails
from pushforward.density.whitening.shrinkage import share_of_identity
from pushforward.density.whitening.tails import Bends, find_tails


def whiten(
    source: Source,
    steps: Float[np.ndarray, " dim"],
    to_support: OntoBox,
    circles: Sequence[Circle | None],
    columns: Sequence[str],
    key: PRNGKeyArray,
) -> Chain:
    r"""From coordinates of mean 0 and covariance 1, which for angles are those of [-pi, pi), to the samples.

    What is given has its linear part in each column taken away, and heavy tails are made lighter:
    $x = B(m + s\,(b(n + t\, L u) + W c))$ for a standardised condition $c$, with $W$ by ridge regression, bends $B$ of
    columns and $b$ of what is left of them, and $L L^T$ the correlations of that.

    Args:
        source: the samples, what they are given, and their weights.
        steps: of discrete columns, 0 for others.
        to_support: from the whole space onto the box that the samples lie in.
        circles: the ends of the intervals of angles, None for others.
        columns: what messages call the columns.
        key: for values that are spread over their steps.

    Raises:
        ValueError: if columns are linearly dependent, or follow from the condition.
    """
    dim = len(circles)
    turning = np.array([circle is not None for circle in circles])
    noise_key, part_key = jr.split(key)

    def carried(rows, x):
        """Carried to the whole space, values of discrete columns spread over their steps, beside c."""
        # In double precision, whatever the flow's: variances of columns far from 0 are differences of large numbers.
        with jax.enable_x64(True):
            spread = x + steps * np.asarray(jr.uniform(jr.fold_in(noise_key, rows[0]), x.shape)) if steps.any() else x
            z, condition = np.asarray(_inverse(to_support, spread)), source.condition_of(rows)
        return z if condition is None else np.concatenate([z, condition], axis=1)

    def lighter(z):
        """The columns bent back, beside c as it is."""
        return np.concatenate([outer.inverse(z[:, :dim]), z[:, dim:]], axis=1)

    rows, x = source.read_part(part_key)
    counts, plain = source.weights_of(rows), carried(rows, x)
    outer = own_tails(plain, dim, counts).where(~turning)
    part = lighter(plain)
    moments = _moments(part, source, lambda *chunk: lighter(carried(*chunk)))
    loc, scale, correlation = moments.loc, moments.scale, _apart(moments.correlation, turning)
    for i, circle in enumerate(circles):
        if circle is not None:
            loc[i], scale[i] = sum(circle) / 2, (circle[1] - circle[0]) / (2 * math.pi)
    left, weights = _without_condition(correlation, dim, moments.size, _rounding(moments), columns)
    parts: list[AbstractBijection] = []
    standardised = (part - loc) / scale
    alone = standardised[:, :dim]
    if weights.size:
        residual = Residual.of(loc, scale, weights, left, part, counts)
        remaining = residual(part)
        inner = find_tails(remaining, counts).where(~turning)
        alone = inner.inverse(remaining)
        warn_of_determined(alone / alone.std(0), standardised[:, dim:], columns)
        if inner.any:
            bent = _moments(alone, source, lambda *chunk: inner.inverse(residual(lighter(carried(*chunk)))))
            left = _apart(bent.correlation, turning)
            parts = [
                each(Affine, np.where(turning, 0, bent.loc), np.where(turning, 1, bent.scale)),
                *_bijections(inner),
            ]
    share = share_of_identity(alone[:, ~turning], counts, moments.size)
    factor = np.linalg.cholesky((1 - share) * left + share * np.diag(np.diag(left)))
    parts = [Triangular(dim, matrix=jnp.asarray(factor)), *parts]
    if weights.any():
        parts.append(_linear(weights, loc[dim:], scale[dim:]))
    parts += [each(Affine, loc[:dim], scale[:dim]), *_bijections(outer), to_support]
    return Chain(parts)


def _moments(part: np.ndarray, source: Source, carried: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Moments:
    """Of all samples, carried to where their moments are wanted, as this part of them was."""
    moments = Moments(part)
    for rows, x in source.chunks():
        moments.add(carried(rows, x), source.weights_of(rows))
    return moments


def _apart(correlation: Square, turning: Bool[np.ndarray, " dim"]) -> Square:
    """Correlations, of angles with nothing."""
    alone = np.zeros(len(correlation), bool)
    alone[: len(turning)] = turning
    return np.where(alone | alone[:, None], np.eye(len(correlation)), correlation)


@eqx.filter_jit
def _inverse(bijection: AbstractBijection, x: ArrayLike):
    return jax.vmap(bijection.inverse)(jnp.asarray(x, float))


def each(scalar: type, *arguments: Float[np.ndarray, " dim"]) -> Elementwise:
    """A scalar bijection for each coordinate, with arguments of its own."""
    scalars = eqx.filter_vmap(scalar)(*(jnp.asarray(argument, float) for argument in arguments))
    return eqx.tree_at(lambda b: b.scalars, Elementwise(scalar(), len(arguments[0])), scalars)


def _bijections(bends: Bends) -> list[AbstractBijection]:
    """None if all are the identity."""
    if not bends.any:
        return []
    return [each(SinhArcsinh, 0 * bends.tails, bends.tails), each(Affine, bends.locs, bends.scales)]


def _linear(weights: Float[np.ndarray, "dim cond_dim"], loc: np.ndarray, scale: np.ndarray) -> RescaledCondition:
    """A shift by weights times the standardised condition."""
    dim, cond_dim = weights.shape
    network: Any = MLP(cond_dim, dim, (), key=jr.key(0))
    network = eqx.tree_at(lambda n: n.weights, network, (jnp.asarray(weights, float),))
    return RescaledCondition(Amortized(Elementwise(Shift(), dim), network, (cond_dim,)), loc, scale)


def _without_condition(
    correlation: Square, dim: int, size: float, noise: np.ndarray, columns: Sequence[str]
) -> tuple[Square, Weights]:
    """The covariance of what a condition leaves of the columns, and its weights in them.

    Args:
        correlation: of the columns, so many, and of the condition.
        dim: how many columns there are.
        size: how many rows it is from.
        noise: the variance that rounding gives each.
        columns: what messages call the columns.
    """
    own, across, given = correlation[:dim, :dim], correlation[:dim, dim:], correlation[dim:, dim:]
    _check_independent(own, noise[:dim], columns)
    if not given.size:
        return own, across
    linear = Linear(own, across, given, size)
    if linear.least is not None:
        weights, left = linear.least
        _check_independent(left, noise[:dim] + weights**2 @ noise[dim:], columns, given=True)
    weights, left = linear.ridge()
    return left, weights


def _rounding(moments: Moments) -> Float[np.ndarray, " columns"]:
    """The variance that rounding to JAX's precision may give each column, as a share of its own."""
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    return 10 * (eps * moments.largest / moments.scale) ** 2 + 1e-13 * len(moments.scale)


def _check_independent(left: Square, noise: np.ndarray, columns: Sequence[str], given: bool = False) -> None:
    """Raise if a combination of columns has no more spread than rounding gives it.

    Args:
        left: the covariance of standardised columns, or what of it a condition leaves.
        noise: the variance of their rounding.
        columns: what messages call them.
        given: whether there is a condition.
    """
    values, vectors = scipy.linalg.eigh(left, np.diag(noise))
    if values[0] >= 1:
        return
    share = np.abs(vectors[:, 0])
    together = [columns[i] for i in np.flatnonzero(share > 0.05 * share.max()).tolist()]
    if given:
        combined = "a combination of " if len(together) > 1 else ""
        raise ValueError(
            f"{combined}{', '.join(together)} of x is a linear function of the condition, to rounding: given it there "
            "is no density; leave it out, of x or of the condition."
        )
    raise ValueError(
        f"{', '.join(together)} of x are linearly dependent, to rounding: together they have no density; leave one out."
    )
