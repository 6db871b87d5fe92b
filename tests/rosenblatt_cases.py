"""Sources of Rosenblatt maps, shared by the tests of `rosenblatt`."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist


def mixture(dim, count=3, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    factors = np.tril(0.5 * rng.normal(size=(count, dim, dim)), -1)
    factors = factors + np.eye(dim) * rng.uniform(0.4, 1.0, (count, dim))[:, :, None]
    means = spread * rng.normal(size=(count, dim))
    weights = jnp.asarray(rng.dirichlet(np.full(count, 3.0)))
    components = dist.MultivariateNormal(jnp.asarray(means), scale_tril=jnp.asarray(factors))
    return dist.MixtureSameFamily(dist.Categorical(weights), components)


def normal(dim):
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def banana(x):
    return -0.5 * (x[0] / 1.5) ** 2 - 0.5 * ((x[1] - 0.5 * x[0] ** 2) / 0.6) ** 2


@eqx.filter_jit
def round_trip(bijection, z):
    x, log_det = bijection.batched.forward_and_log_det(z)
    back, log_det_back = bijection.batched.inverse_and_log_det(x)
    return x, log_det, back, log_det_back


forward = eqx.filter_jit(lambda bijection, x: bijection.batched.forward(x))
