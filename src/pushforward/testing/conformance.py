"""One conformance suite for all bijections."""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro.distributions.constraints import Constraint

from pushforward.bijections import AbstractBijection
from pushforward.bijections.arrays import ArrayLike, trainable
from pushforward.bijections.intervals import bounds
from pushforward.testing.parameters import map_to_domain, noise_like, randomize
from pushforward.testing.structure import check_shapes, check_structure
from pushforward.training.compilation import jit_quick_compilation

# Inputs and parameters are perturbed by a few machine epsilons. Errors of up to this multiple of the resulting change
# are allowed.
PERTURBATION_FACTOR = 300
# Random log-determinants are averaged over NUM_KEYS keys; their mean may be off by STANDARD_ERRORS standard errors.
NUM_KEYS, STANDARD_ERRORS = 2000, 5
# A point is well-conditioned if the relative change by a perturbation is less than this number.
WELL_CONDITIONED = 1e-4
# The largest relative error of derivatives at well-conditioned points.
DERIVATIVE_TOLERANCE = 5e-3


def check_bijection(
    bijection: AbstractBijection,
    *,
    key: PRNGKeyArray,
    scales: Sequence[float] = (0.0, 1.0, 3.0),
    points: ArrayLike | None = None,
    num_points: int = 16,
    tolerance: float | None = None,
    bias: float = 0.0,
) -> None:
    """Check that a bijection is invertible and has all properties that the package expects of bijections.

    At random points, at the initial parameters and far from them, it checks shapes and dtypes; the round trip; the
    log-determinants of both directions against automatic Jacobians and against each other; `push_score` against the
    automatic gradient; stochastic log-determinants, if any, against the exact ones; `jit` against eager execution,
    `vmap` against a loop, and batches along the last axis, which flows use, against `vmap`; that gradients with respect
    to points and parameters are finite; that every parameter gets a gradient from both directions; that the
    derivatives of the two directions with respect to parameters and condition cancel; that all other fields are static,
    hashable and importable by name, so that equal bijections compile once; and that saving and loading preserves it.

    Args:
        bijection: the bijection.
        key: the key for points, conditions and parameters.
        scales: the values of `scale` with which `randomize` moves the parameters.
        points: further points u to check, of shape (n, *shape), such as boundaries and knots.
        num_points: the number of random points, mapped into the bijection's domain: one half is standard normal, the
            other five times as wide.
        tolerance: the allowed relative error, by default 1e-9 in float64 and 1e-4 in float32, plus a few hundred times
            the change that results from a perturbation of inputs and parameters by eight machine epsilons. If that is
            as large as the value itself, neither the value nor values computed from it are compared.
        bias: the allowed bias of the mean of stochastic log-determinants, beyond its standard error.

    Raises:
        AssertionError: if a property fails; the message gives the property, the parameters, the point and the error.
    """
    point_key, condition_key, weight_key, *move_keys = jr.split(key, 3 + len(scales))
    u = jr.normal(point_key, (num_points, *bijection.shape))
    u = u.at[num_points // 2 :].multiply(5.0)
    u = map_to_domain(bijection.domain, jnp.concatenate([u, jnp.zeros((1, *bijection.shape))]))
    if points is not None:
        u = jnp.concatenate([u, jnp.asarray(points, u.dtype).reshape(-1, *bijection.shape)])
    condition = None if bijection.cond_shape is None else jr.normal(condition_key, bijection.cond_shape)
    weights = jr.normal(weight_key, bijection.shape, u.dtype)
    if tolerance is None:
        tolerance = 1e-9 if u.dtype == jnp.float64 else 1e-4

    check_structure(bijection)
    check_shapes(bijection, u[0], condition, type(bijection).__name__)
    for scale, move_key in zip(scales, move_keys, strict=True):
        moved = randomize(bijection, move_key, scale) if scale else bijection
        where = f"{type(bijection).__name__}, parameters perturbed by {scale} x standard normal noise"
        found = {name: np.asarray(value) for name, value in _measure(moved, u, condition, weights).items()}
        _check_found(found, u, tolerance, where)
        _check_gradients(moved, u, jnp.asarray(found["x"]), condition, weights, scale, where)
        # Only at the first nonzero scale, where most points are well-conditioned.
        if scale == next(filter(None, scales), scales[-1]):
            _check_derivatives_cancel(moved, u, condition, found, move_key, where)
            if bijection.stochastic:
                _check_random_log_dets(moved, u, condition, found, move_key, tolerance, bias, where)
        # Execution does not depend on the parameters: once is enough, at the last scale.
        if scale == scales[-1]:
            _check_execution(moved, u, condition, found, tolerance, where)
            if bijection.vectorized:
                _check_batched(moved, u, condition, found, tolerance, where)


@jit_quick_compilation
def _measure(bijection: AbstractBijection, u: Array, condition: Array | None, weights: Array) -> dict[str, Array]:
    size = int(np.prod(bijection.shape))
    few_epsilons = 8 * jnp.finfo(u.dtype).eps

    def log_prob(x, bijection):
        back, log_det = bijection.inverse_and_log_det(x, condition)
        return log_det - 0.5 * jnp.sum(back**2), (back, log_det)

    def forward(u, bijection=bijection):
        x, log_det = bijection.forward_and_log_det(u, condition)
        return x, (x, log_det)

    def inverse(x):
        u, log_det = bijection.inverse_and_log_det(x, condition)
        return u, (u, log_det)

    def by_inverse(x, bijection=bijection):
        score, (back, log_det) = jax.grad(log_prob, has_aux=True)(x, bijection)
        return {"back": back, "inverse_log_det": log_det, "expected_score": score}

    def one(u):
        jacobian, (x, log_det) = jax.jacfwd(forward, has_aux=True)(u)
        inverse_jacobian, _ = jax.jacfwd(inverse, has_aux=True)(x)
        found = by_inverse(x)
        again, _ = forward(found["back"])
        pushed_x, pushed_log_det, score = bijection.push_score(u, -u, condition)

        # The change by a perturbation of a few machine epsilons: no computation can be more accurate than that.
        def perturbed(sign):
            size = sign * few_epsilons
            near = jax.tree.map(lambda a: a * (1 + size).astype(a.dtype) if eqx.is_inexact_array(a) else a, bijection)
            direction = size * jnp.sign(weights)
            _, (near_x, near_log_det) = forward(_move(u, direction, bijection.domain), near)
            return by_inverse(_move(x, direction, bijection.codomain), near) | {"x": near_x, "log_det": near_log_det}

        values = found | {"x": x, "log_det": log_det}
        near_values = jax.vmap(perturbed)(jnp.array([1.0, -1.0], u.dtype))
        sensitivity = {f"sensitivity of {k}": jnp.max(jnp.abs(near_values[k] - values[k])) for k in values}
        return (
            values
            | sensitivity
            | {
                "jacobian": jacobian.reshape(size, size),
                "inverse_jacobian": inverse_jacobian.reshape(size, size),
                "again": again,
                "pushed_x": pushed_x,
                "pushed_log_det": pushed_log_det,
                "score": score,
            }
        )

    return jax.vmap(one)(u)


def _move(x: Array, direction: Array, domain: Constraint) -> Array:
    """Take a step, in units of 1 + |x|, unless it leads out of the domain."""
    moved = x + (1 + jnp.abs(x)) * direction
    lower, upper = (jnp.asarray(end, x.dtype) for end in bounds(domain))
    return jnp.where((lower < moved) & (moved < upper), moved, x)


def _compare(what: str, got, expected, allowed, u, where: str) -> None:
    """Assert |got - expected| <= allowed for each point; the message gives the worst point."""
    axes = tuple(range(1, np.ndim(got)))
    error = np.max(np.abs(got - expected), axis=axes) if axes else np.abs(got - expected)
    bad = ~(error <= allowed)
    if bad.any():
        i = int(np.argmax(np.where(np.isnan(error), np.inf, error / allowed)))
        raise AssertionError(
            f"{where}: {what} is off by {error[i]:.3g}, more than the {np.broadcast_to(allowed, error.shape)[i]:.3g} "
            f"allowed, at u = {np.asarray(u[i])}; got {np.asarray(got[i])}, expected {np.asarray(expected[i])}"
        )


def _check_found(found, u, tolerance, where) -> None:
    flat = {
        k: v.reshape(len(u), -1) for k, v in found.items() if k in ("x", "back", "again", "score", "expected_score")
    }
    points = np.asarray(u).reshape(len(u), -1)

    def allow(name: str, slack: float | np.ndarray = 0.0):
        """The allowed error of a value that should equal found[name]; infinite if a perturbation changes all digits."""
        size = 1 + np.abs(found[name]).reshape(len(u), -1).max(1)
        rounding = PERTURBATION_FACTOR * found[f"sensitivity of {name}"]
        return tolerance * size + np.where(rounding < size, rounding, np.inf) + slack

    # If all digits of u or x are lost by rounding, the point after the round trip is arbitrary.
    lost = np.isinf(allow("back")) | np.isinf(allow("x"))
    flat["again"] = np.where(lost[:, None], flat["x"], flat["again"])
    for name, value in (found | {"again": flat["again"]}).items():
        _assert_finite(value, points, f"{where}: {name}")
    _compare("the round trip u -> x -> u", flat["back"], points, allow("back"), u, where)
    _compare("the round trip x -> u -> x", flat["again"], flat["x"], allow("x"), u, where)
    for name, jacobian in (("log_det", "jacobian"), ("inverse_log_det", "inverse_jacobian")):
        expected, error = _log_abs_det(found[jacobian].astype(np.float64), float(jnp.finfo(u.dtype).eps))
        # A slope may underflow to 0 where the exact log-determinant is below the smallest number's logarithm.
        underflow = np.isneginf(expected) & (found[name] < np.log(float(jnp.finfo(u.dtype).tiny)))
        expected = np.where(underflow, found[name], expected)
        _compare(f"{name} against the automatic Jacobian", found[name], expected, allow(name, error), u, where)
    both = allow("log_det") + allow("inverse_log_det")
    _compare("inverse_log_det + log_det", found["inverse_log_det"], -found["log_det"], both, u, where)
    _compare("push_score's x", found["pushed_x"], found["x"], allow("x"), u, where)
    _compare("push_score's log_det", found["pushed_log_det"], found["log_det"], allow("log_det"), u, where)
    _compare("push_score's score", flat["score"], flat["expected_score"], allow("expected_score"), u, where)


def _log_abs_det(jacobian: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """log|det| of a batch of matrices, and a bound on its rounding error."""
    if np.array_equal(jacobian, np.tril(jacobian)) or np.array_equal(jacobian, np.triu(jacobian)):
        slopes = np.abs(np.diagonal(jacobian, axis1=1, axis2=2))
        with np.errstate(divide="ignore"):
            log_det, conditioning = np.log(slopes).sum(1), (1 / slopes).max(1)
    else:
        log_det, conditioning = np.linalg.slogdet(jacobian)[1], np.linalg.cond(jacobian)
    error = PERTURBATION_FACTOR * eps * conditioning
    # A nearly singular Jacobian is not evidence of an error, but an exactly singular one is.
    return log_det, np.where(error < 1, error, np.where(np.isinf(log_det), 0.0, np.inf))


@jit_quick_compilation
def _random_log_dets(bijection: AbstractBijection, method: str, point: Array, condition: Array | None, keys: Array):
    return jax.vmap(lambda key: getattr(bijection, method)(point, condition, key=key))(keys)


def _check_random_log_dets(bijection, u, condition, found, key, tolerance, bias, where) -> None:
    """With keys, both directions must give the same point, and log-determinants with the exact mean."""
    keys = jr.split(key, NUM_KEYS)
    for direction, points, values, log_dets in (
        ("forward", u, found["x"], found["log_det"]),
        ("inverse", jnp.asarray(found["x"]), found["back"], found["inverse_log_det"]),
    ):
        got = _random_log_dets(bijection, f"{direction}_and_log_det", points[0], condition, keys)
        value, estimates = (np.asarray(a) for a in got)
        what = f"{direction} with a key"
        _assert_finite(estimates, np.broadcast_to(u[0], (NUM_KEYS, *u[0].shape)), f"{where}: {what}'s log-determinant")
        size = 1 + np.abs(values[0]).max(initial=0)
        allowed = np.array([tolerance * size + PERTURBATION_FACTOR * found["sensitivity of x"][0]])
        _compare(f"{what}'s value", value[:1], values[:1], allowed, u, where)
        error = STANDARD_ERRORS * estimates.std() / NUM_KEYS**0.5 + bias + tolerance * (1 + np.abs(log_dets[0]))
        mean = np.array([estimates.mean()])
        _compare(f"the mean of {what}'s log-determinants", mean, log_dets[:1], np.array([error]), u, where)


def _check_execution(bijection, u, condition, found, tolerance, where) -> None:
    """Eager execution of single points against the compiled batch."""
    for i in (0, len(u) - 1):
        x, log_det = bijection.forward_and_log_det(u[i], condition)
        # Rounding differs between the two, and the map may amplify it.
        sensitivity = found["sensitivity of x"][i] + found["sensitivity of log_det"][i]
        allowed = np.array([tolerance * (1 + np.abs(x).max() + np.abs(log_det)) + PERTURBATION_FACTOR * sensitivity])
        _compare(
            "eager forward against jit and vmap",
            np.asarray(x)[None],
            found["x"][i][None],
            allowed,
            u[i:],
            where,
        )
        eager = np.asarray(log_det)[None]
        _compare("eager log_det against jit and vmap", eager, found["log_det"][i][None], allowed, u[i:], where)
    # Only one inverse, because numerical inverses are slow when run eagerly.
    back, _ = bijection.inverse_and_log_det(jnp.asarray(found["x"][0]), condition)
    allowed = np.array([tolerance * (1 + np.abs(back).max()) + PERTURBATION_FACTOR * found["sensitivity of back"][0]])
    _compare("eager inverse against jit and vmap", np.asarray(back)[None], found["back"][:1], allowed, u, where)


@jit_quick_compilation
def _batched(bijection: AbstractBijection, u: Array, condition: Array | None):
    forward = bijection.forward_batch(jnp.moveaxis(u, 0, -1), condition)
    return *forward, *bijection.inverse_batch(forward[0], condition)


def _check_batched(bijection, u, condition, found, tolerance, where) -> None:
    """Events along the last axis, as flows use them, against `vmap`."""
    names = ("x", "log_det", "back", "inverse_log_det")
    for name, value in zip(names, _batched(bijection, u, condition), strict=True):
        expected = found[name]
        assert value.shape == (*expected.shape[1:], len(u)), (
            f"{where}: batched gives {name} of shape {value.shape}, not {(*expected.shape[1:], len(u))}"
        )
        size = 1 + np.abs(expected).reshape(len(u), -1).max(1)
        allowed = tolerance * size + 2 * PERTURBATION_FACTOR * found[f"sensitivity of {name}"]
        _compare(f"batched {name} against vmap", np.moveaxis(np.asarray(value), -1, 0), expected, allowed, u, where)


@jit_quick_compilation
def _gradients(bijection: AbstractBijection, method: str, points: Array, condition: Array | None, weights: Array):
    """The gradients of weights . value + log-determinant with respect to the arrays and the point."""
    arrays, static = eqx.partition(bijection, trainable(bijection))

    def output(arrays, point):
        value, log_det = getattr(eqx.combine(arrays, static), method)(point, condition)
        return jnp.sum(weights * value) + log_det

    return jax.vmap(jax.grad(output, argnums=(0, 1)), in_axes=(None, 0))(arrays, points)


def _check_gradients(bijection, u, x, condition, weights, scale, where) -> None:
    for direction, points in (("forward", u), ("inverse", x)):
        by_array, by_point = _gradients(bijection, f"{direction}_and_log_det", points, condition, weights)
        _assert_finite(by_point, points, f"{where}: the gradient of {direction} with respect to the point")
        for path, gradient in jax.tree.leaves_with_path(by_array):
            name = jax.tree_util.keystr(path)
            _assert_finite(gradient, points, f"{where}: the gradient of {direction} with respect to {name}")
            # At the initial parameters some gradients may be 0, such as those of layers before a zero layer.
            unmoved = scale and gradient.size and not np.any(gradient)
            assert not unmoved, f"{where}: {name} gets no gradient from {direction}"


@jit_quick_compilation
def _cancelling(bijection: AbstractBijection, u: Array, condition: Array | None, direction: PyTree):
    """The directional derivatives, with respect to arrays and condition, of values that do not depend on them.

    These are inverse(forward(u)), which is u, and the sum of both log-determinants, which is 0. The sizes of the terms
    that must cancel are returned for comparison.
    """
    arrays, static = eqx.partition((bijection, condition), trainable((bijection, condition)))

    def apply(method, arrays, point):
        bijection, condition = eqx.combine(arrays, static)
        return getattr(bijection, method)(point, condition)

    def one(u):
        (x, _), (x_moved, by_forward) = jax.jvp(
            lambda arrays: apply("forward_and_log_det", arrays, u), (arrays,), (direction,)
        )

        def by_inverse(x_moved):
            inverse = functools.partial(apply, "inverse_and_log_det")
            return jax.jvp(inverse, (arrays, x), (direction, x_moved))[1]

        alone, log_det_alone = by_inverse(jnp.zeros_like(x))
        moved, log_det_moved = by_inverse(x_moved)
        size = jnp.max(jnp.abs(alone), initial=0.0)
        return moved, size, by_forward + log_det_moved, jnp.abs(by_forward) + jnp.abs(log_det_alone)

    return jax.vmap(one)(u)


def _check_derivatives_cancel(bijection, u, condition, found, key, where) -> None:
    arrays = eqx.filter((bijection, condition), trainable((bijection, condition)))
    derivatives = _cancelling(bijection, u, condition, noise_like(arrays, key))
    moved, size, log_det_moved, log_det_size = map(np.asarray, derivatives)
    # Only at well-conditioned points: derivatives are worse conditioned than the map.
    names = ("back", "inverse_log_det", "x")
    sizes = [1 + np.abs(found[name]).reshape(len(u), -1).max(1) for name in names]
    well = np.all(
        [found[f"sensitivity of {name}"] < WELL_CONDITIONED * s for name, s in zip(names, sizes, strict=True)], axis=0
    ) & (size < 1 / WELL_CONDITIONED)
    for what, got, allowed in (
        ("the derivative of inverse(forward(u)) with respect to arrays and condition", moved, size),
        (
            "the derivative of log_det + inverse_log_det with respect to arrays and condition",
            log_det_moved,
            log_det_size,
        ),
    ):
        _compare(
            what, got[well], np.zeros_like(got[well]), DERIVATIVE_TOLERANCE * (0.1 + allowed[well]), u[well], where
        )


def _assert_finite(value, points, what: str) -> None:
    finite = np.isfinite(value).reshape(len(points), -1).all(1)
    assert finite.all(), f"{what} is not finite at {np.asarray(points[np.argmin(finite)])}"
