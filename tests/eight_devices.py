"""Fits on eight virtual devices beside the same fits on one; a program that test_devices.py runs in its own process."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh

import pushforward as pf
from vae_cases import images, small

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
MESH = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
ROWS = np.random.default_rng(0).normal(size=(512, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])


def equal(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def on_both(fit, rtol=1e-6):
    one, eight = fit(None), fit(MESH)
    assert len(eight.history.losses) > 0
    np.testing.assert_allclose(eight.history.losses, one.history.losses, rtol=rtol)
    return one, eight


def refused(fit):
    three = Mesh(np.array(jax.devices()[:3]), "devices")
    try:
        fit(three)
    except ValueError as error:
        assert "3 devices, which do not divide" in str(error), error
    else:
        raise AssertionError("a mesh of three devices was not refused")


def train(objective):
    class Result:
        def __init__(self, mesh):
            flow = pf.flows.realnvp(2, num_layers=2, hidden=(8,), key=jr.key(0))
            self.flow, self.history = pf.train(flow, objective, key=jr.key(1), steps=20, num_evaluations=2, mesh=mesh)

    return Result


def reverse_kl(x):
    return -0.25 * jnp.sum((x - 1) ** 2) - 0.1 * jnp.sum(x**4)


for objective in (pf.ReverseKL(reverse_kl, num_samples=64), pf.ForwardKL(jnp.asarray(ROWS), batch_size=64)):
    one, eight = on_both(train(objective))
    equal(eight.flow, one.flow)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(eight.flow) if isinstance(leaf, jax.Array))
    refused(train(objective))


def posterior(mesh):
    target = pf.Target(
        lambda u: -0.5 * u @ u,
        jnp.zeros(1),
        log_likelihood=lambda u, rows: -0.5 * jnp.sum((rows - u) ** 2, 1),
        data=ROWS[:, :1],
        batch_size=64,
    )
    return pf.fit_posterior(target, key=jr.key(0), budget=256 * 1000, mesh=mesh)


# The target is Gaussian: at the end the gradients are rounding errors, which Adam makes as large as any.
one, eight = on_both(posterior, rtol=1e-4)
assert eight.diagnostics.verdict == "good"
np.testing.assert_allclose(eight.diagnostics.log_evidence, one.diagnostics.log_evidence, rtol=1e-6)
refused(posterior)


def density(mesh):
    flow = pf.flows.realnvp(2, num_layers=2, hidden=(8,), key=jr.key(0))
    return pf.fit_density(ROWS, key=jr.key(0), flow=flow, batch_size=64, max_epochs=2, mesh=mesh)


one, eight = on_both(density)
np.testing.assert_allclose(eight.log_prob(ROWS), one.log_prob(ROWS), rtol=1e-6)
refused(density)


class Trained:
    def __init__(self, mesh):
        self.vae, self.history = pf.fit_vae(
            images(64), key=jr.key(0), vae=small(), batch_size=16, binarize=True, max_epochs=2, mesh=mesh
        )


one, eight = on_both(Trained)
equal(eight.vae, one.vae)
refused(Trained)
