"""The whitening transform: the bijection from whitened coordinates to samples.

The flow is trained in whitened coordinates.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, PRNGKeyArray

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
from pushforward.bijections.arrays import ArrayLike
from pushforward.density.data.column_warnings import warn_if_extreme, warn_if_function_of_condition
from pushforward.density.data.columns import Circle
from pushforward.density.data.source import Source
from pushforward.density.whitening.moments import Moments
from pushforward.density.whitening.regression import (
    Coefficients,
    Joint,
    LinearRegression,
    Residuals,
    Square,
    fit_tail_transforms_given_condition,
)
from pushforward.density.whitening.shrinkage import choose_shrinkage
from pushforward.density.whitening.tails import TailTransforms, fit_tail_transforms


def whiten(
    source: Source,
    steps: Float[np.ndarray, " dim"],
    to_support: OntoBox,
    circles: Sequence[Circle | None],
    labels: Sequence[str],
    key: PRNGKeyArray,
    *,
    few_rows: bool = False,
) -> Chain:
    r"""The bijection from whitened coordinates $u$ to samples; $u$ has mean 0 and covariance 1.

    $x = B(T(m + s\,(W c + R(n + t\, L u))))$, where $B$ maps onto the support, $T$ and $R$ are the tail transforms of
    the columns and of the residuals, $W$ are the ridge-regression coefficients of the standardized condition $c$, and
    $L L^T$ are the shrunk correlations of the residuals. Angles are only shifted and scaled to [-pi, pi).

    Args:
        source: the samples, their conditions and their weights.
        steps: the step of each discrete column, 0 for others.
        to_support: the map from the whole space onto the support.
        circles: the ends of the interval of each angle; None for other columns.
        labels: the labels of the columns in messages.
        key: the key for the dequantization of discrete columns.
        few_rows: whether there are no more distinct rows than columns: then there are no tail transforms, and linear
            dependence of the columns, which cannot be seen, is no error.

    Raises:
        ValueError: if columns are linearly dependent, or are linear functions of the condition.
    """
    dim = len(circles)
    is_angle = np.array([circle is not None for circle in circles])
    noise_key, part_key = jr.split(key)

    def unconstrained(rows: np.ndarray, x: np.ndarray) -> Joint:
        """Dequantized samples, mapped from their support to the whole space, followed by their condition."""
        # Always in double precision: variances of columns far from 0 are differences of large numbers.
        with jax.enable_x64(True):
            if steps.any():
                x = x + steps * np.asarray(jr.uniform(jr.fold_in(noise_key, rows[0]), x.shape))
            z, condition = np.asarray(_inverse(to_support, x)), source.condition_of(rows)
        return z if condition is None else np.concatenate([z, condition], axis=1)

    def light_tailed(joint: Joint) -> Joint:
        """The inverse of the tail transforms of the columns; the condition is unchanged."""
        return np.concatenate([column_tails.inverse(joint[:, :dim]), joint[:, dim:]], axis=1)

    rows, x = source.read_part(part_key)
    weights, joint = source.weights_of(rows), unconstrained(rows, x)
    _check_resolved(x, joint[:, :dim], labels)
    column_tails = fit_tail_transforms_given_condition(joint, dim, weights).where(~is_angle & (not few_rows))
    joint = light_tailed(joint)
    moments = _moments(joint, source, lambda *chunk: light_tailed(unconstrained(*chunk)))
    loc, scale, correlation = moments.loc, moments.scale, _decorrelate(moments.correlation, is_angle)
    for i, circle in enumerate(circles):
        if circle is not None:
            loc[i], scale[i] = sum(circle) / 2, (circle[1] - circle[0]) / (2 * math.pi)
    rounding = None if few_rows else _rounding_variances(moments)
    coefficients, covariance = _regress(correlation, dim, moments.effective_size, rounding, labels)

    standardized = (joint - loc) / scale
    if not few_rows:
        warn_if_extreme(x, standardized[:, :dim], rows, labels)
    whitened, to_residuals = standardized[:, :dim], []
    if coefficients.size:
        residuals_of = Residuals.fit(loc, scale, coefficients, covariance, joint, weights)
        residuals = residuals_of(joint)
        residual_tails = fit_tail_transforms(residuals, weights).where(~is_angle & (not few_rows))
        whitened = residual_tails.inverse(residuals)
        warn_if_function_of_condition(whitened / whitened.std(0), standardized[:, dim:], labels)
        if residual_tails.any:
            residual_moments = _moments(
                whitened,
                source,
                lambda *chunk: residual_tails.inverse(residuals_of(light_tailed(unconstrained(*chunk)))),
            )
            covariance = _decorrelate(residual_moments.correlation, is_angle)
            residual_loc = np.where(is_angle, 0, residual_moments.loc)
            residual_scale = np.where(is_angle, 1, residual_moments.scale)
            to_residuals = [Elementwise.each(Affine, residual_loc, residual_scale), *_tail_bijections(residual_tails)]
    shrinkage = choose_shrinkage(whitened[:, ~is_angle], weights, moments.effective_size)
    factor = np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance)))
    return Chain(
        [
            Triangular(dim, matrix=jnp.asarray(factor)),
            *to_residuals,
            *([_linear_shift(coefficients, loc[dim:], scale[dim:])] if coefficients.any() else []),
            Elementwise.each(Affine, loc[:dim], scale[:dim]),
            *_tail_bijections(column_tails),
            to_support,
        ]
    )


def _check_resolved(x: np.ndarray, z: Joint, labels: Sequence[str]) -> None:
    """Raise if the values of a column are equal after the map from its support to the whole space."""
    with np.errstate(invalid="ignore"):
        resolved = (np.ptp(z, axis=0) > 0) | (np.ptp(x, axis=0) == 0)
    for i in np.flatnonzero(~resolved).tolist():
        raise ValueError(
            f"the support of {labels[i]} is too wide for the values of x, which are equal up to rounding errors "
            "relative to it; give a narrower support."
        )


def _moments(sample: np.ndarray, source: Source, transform: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Moments:
    """The moments of all samples after a transform of (row indices, samples); `sample` is a part of the results."""
    moments = Moments(sample)
    for rows, x in source.chunks():
        moments.add(transform(rows, x), source.weights_of(rows))
    return moments


def _decorrelate(correlation: Square, is_angle: Bool[np.ndarray, " columns"]) -> Square:
    """The correlation matrix with those of angles, which are among the first columns, set to 0."""
    removed = np.zeros(len(correlation), bool)
    removed[: len(is_angle)] = is_angle
    return np.where(removed | removed[:, None], np.eye(len(correlation)), correlation)


@eqx.filter_jit
def _inverse(bijection: AbstractBijection, x: ArrayLike):
    return bijection.batched.inverse(jnp.asarray(x, float))


def _tail_bijections(transforms: TailTransforms) -> list[AbstractBijection]:
    """The tail transforms as bijections; an empty list if all are the identity."""
    if not transforms.any:
        return []
    return [
        Elementwise.each(SinhArcsinh, 0 * transforms.tails, transforms.tails),
        Elementwise.each(Affine, transforms.locs, transforms.scales),
    ]


def _linear_shift(coefficients: Coefficients, loc: np.ndarray, scale: np.ndarray) -> RescaledCondition:
    """A shift by coefficients times the standardized condition."""
    dim, cond_dim = coefficients.shape
    network: Any = MLP(cond_dim, dim, (), key=jr.key(0))
    network = eqx.tree_at(lambda n: n.weights, network, (jnp.asarray(coefficients, float),))
    return RescaledCondition(Amortized(Elementwise(Shift(), dim), network, (cond_dim,)), loc, scale)


def _regress(
    correlation: Float[np.ndarray, "joint joint"],
    dim: int,
    effective_size: float,
    rounding: np.ndarray | None,
    labels: Sequence[str],
) -> tuple[Coefficients, Square]:
    """The coefficients of the condition, and the covariance of the residuals.

    Args:
        correlation: the correlation matrix of the columns and the condition together.
        dim: the number of columns; the others are the condition.
        effective_size: the effective sample size.
        rounding: the variance of the rounding error of each column; None if linear dependence is no error.
        labels: the labels of the columns in messages.
    """
    if rounding is not None:
        _check_independent(correlation[:dim, :dim], rounding[:dim], labels)
    if len(correlation) == dim:
        return correlation[:, dim:], correlation
    regression = LinearRegression(correlation, dim, effective_size)
    if rounding is not None and (fitted := regression.least_squares()) is not None:
        coefficients, covariance = fitted
        rounding = rounding[:dim] + coefficients**2 @ rounding[dim:]
        _check_independent(covariance, rounding, labels, conditional=True)
    return regression.ridge()


def _rounding_variances(moments: Moments) -> Float[np.ndarray, " columns"]:
    """The largest variance of rounding errors in JAX's precision, as a fraction of the variance of each column."""
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    return 10 * (eps * moments.largest / moments.scale) ** 2 + 1e-13 * len(moments.scale)


def _check_independent(
    covariance: Square, rounding: np.ndarray, labels: Sequence[str], conditional: bool = False
) -> None:
    """Raise if a linear combination of columns varies no more than its rounding error.

    Args:
        covariance: the covariance of standardized columns or, if `conditional`, of their residuals.
        rounding: the variance of their rounding errors.
        labels: the labels of the columns in messages.
        conditional: whether these are residuals of a regression on the condition.
    """
    values, vectors = scipy.linalg.eigh(covariance, np.diag(rounding))
    if values[0] >= 1:
        return
    part = np.abs(vectors[:, 0])
    involved = [labels[i] for i in np.flatnonzero(part > 0.05 * part.max()).tolist()]
    if conditional:
        combination = "a combination of " if len(involved) > 1 else ""
        raise ValueError(
            f"{combination}{', '.join(involved)} of x is a linear function of the condition, up to rounding errors: it "
            "has no conditional density; leave it out of x, or out of the condition."
        )
    raise ValueError(
        f"{', '.join(involved)} of x are linearly dependent, up to rounding errors: together they have no density; "
        "leave one out."
    )
