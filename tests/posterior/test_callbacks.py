"""Log-densities outside of JAX that raise exceptions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.experimental import io_callback
from scipy import stats

import pushforward as pf
from pushforward.posterior.runtime_errors import can_raise, zero_at_errors

POINTS = jnp.array([[1.0, 0.5], [4.0, 0.5], [-2.0, 0.5], [0.5, 9.0]])
GOOD = np.array([0, 2])


def on_host(x):
    """The log-density of vectors along the last axis."""
    x = np.asarray(x)
    if (x > 3).any():
        raise ValueError("too large")
    return -0.5 * np.sum(x**2, axis=-1)


def gradient_on_host(x):
    on_host(x)
    return -np.asarray(x)


def density(call=jax.pure_callback, fn=on_host, **options):
    """The log-density as a function of JAX, with its gradient from outside too."""

    @jax.custom_vjp
    def log_density(x):
        return call(fn, jax.ShapeDtypeStruct((), x.dtype), x, **options)

    def backward(x, cotangent):
        return (cotangent * call(gradient_on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, **options),)

    log_density.defvjp(lambda x: (log_density(x), x), backward)
    return log_density


@pytest.mark.parametrize(
    "options",
    [
        {"vmap_method": "sequential"},
        {"vmap_method": "expand_dims"},
        {"vmap_method": "broadcast_all"},
        {"call": io_callback},
    ],
)  # fmt: skip
def test_a_point_that_raises_has_density_zero_and_the_others_are_unchanged(options):
    log_density = density(**options)
    assert can_raise(log_density, POINTS[0])
    with pytest.raises(jax.errors.JaxRuntimeError, match="too large"):
        jax.block_until_ready(jax.vmap(log_density)(POINTS))
    guarded = jax.value_and_grad(lambda u: zero_at_errors(u, eqx.Partial(log_density)))
    for points, values, gradients in (
        (POINTS, *jax.jit(jax.vmap(guarded))(POINTS)),
        (POINTS, *(jnp.stack(parts) for parts in zip(*map(guarded, POINTS), strict=True))),
    ):
        np.testing.assert_allclose(values, np.where(np.isin(np.arange(4), GOOD), -0.5 * (points**2).sum(1), -np.inf))
        np.testing.assert_allclose(gradients[GOOD], -points[GOOD])
        assert np.isnan(gradients[np.array([1, 3])]).all()


def test_batches_of_batches():
    guarded = jax.vmap(jax.vmap(lambda u: zero_at_errors(u, eqx.Partial(density(vmap_method="expand_dims")))))
    points = jnp.stack([POINTS, POINTS[::-1]])
    np.testing.assert_array_equal(np.isfinite(guarded(points)), [[1, 0, 1, 0], [0, 1, 0, 1]])


def test_few_calls_find_few_points():
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return on_host(x)

    guarded = jax.vmap(lambda u: zero_at_errors(u, eqx.Partial(density(fn=counted, vmap_method="expand_dims"))))
    points = jnp.zeros((1000, 2)).at[700].set(9.0)
    np.testing.assert_array_equal(jnp.isneginf(guarded(points)), jnp.arange(1000) == 700)
    assert len(sizes) <= 21 and max(sizes) == 1000


@pytest.mark.parametrize("error", [TypeError, NameError, OSError])
def test_errors_of_the_code_and_of_the_machine_are_raised(error):
    def wrong(x):
        raise error("no such thing")

    guarded = jax.vmap(lambda u: zero_at_errors(u, eqx.Partial(density(fn=wrong, vmap_method="sequential"))))
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such thing"):
        jax.block_until_ready(guarded(POINTS))


def test_functions_of_other_packages_are_no_callbacks_of_the_user(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((30, 2)))
    target = pf.Target(
        lambda x: -jnp.sum(x**2), jnp.zeros(2), data=tmp_path / "rows.npy",
        log_likelihood=lambda x, rows: -jnp.sum((x - rows) ** 2, axis=1),
    )  # fmt: skip
    assert not target.can_raise


def test_a_fit_of_a_log_density_that_raises_far_out():
    target = pf.Target(density(vmap_method="expand_dims"), jnp.zeros(2))
    diagnostics = pf.fit_posterior(target, key=jr.key(0), budget=20_000).diagnostics
    # A normal, cut at 3 in both coordinates.
    assert diagnostics.verdict == "reweight"
    assert diagnostics.log_evidence == pytest.approx(np.log(2 * np.pi) + 2 * stats.norm.logcdf(3.0), abs=1e-3)
    assert any("raises an error at 0.2" in reason for reason in diagnostics.reasons)
