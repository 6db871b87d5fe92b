"""The benchmark's posteriors are those that the reference draws are of: Stein's identity, without any sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pushforward as pf
from benchmarks.posteriors.registry import CASES, load

NUM_DRAWS = 10_000
# The gradient of an ordinary differential equation is worth a thousand others.
FEWER = {"lotka_volterra": 1_000}


@pytest.mark.parametrize("name", CASES)
def test_stein_identity(name, reference_data):
    problem = load(name, reference_data)
    target = pf.Target.from_numpyro(problem.model, **problem.data)
    u, gradient = unconstrained_gradients(target, problem.sites, FEWER.get(name, NUM_DRAWS))
    assert np.isfinite(gradient).all()
    # E[grad log p] = 0 and E[(u - mean) * grad log p] = -1 hold for exact draws, and for these densities alone.
    statistics = np.concatenate([gradient, (u - u.mean(0)) * gradient + 1], 1)
    t = statistics.mean(0) / statistics.std(0) * len(u) ** 0.5
    assert np.abs(t).max() < 5, t.round(1)


def unconstrained_gradients(target, sites, num):
    """Reference draws as unconstrained vectors, spread evenly over the chains, and the gradients there."""
    total = len(next(iter(sites.values())))
    rows = np.linspace(0, total - 1, num).astype(int)

    @jax.jit
    def both(draws):
        def one(draw):
            u = target.unconstrain(draw)
            return u, jax.grad(target)(u)

        return jax.lax.map(one, draws, batch_size=250)

    u, gradient = both({name: jnp.asarray(value[rows]) for name, value in sites.items()})
    return np.asarray(u), np.asarray(gradient)
