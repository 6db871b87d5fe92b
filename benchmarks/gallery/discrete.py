"""Discrete latent variables in NumPyro: each function makes data and returns a model with its arguments."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

from benchmarks.gallery.registry import example


def ordered_normal(size, scale):
    return dist.TransformedDistribution(
        dist.Normal(0, scale).expand([size]).to_event(1), dist.transforms.OrderedTransform()
    )


@example("NumPyro: mixture of Gaussians, components summed out")
def mixture(rng):
    y = np.concatenate([rng.normal(-2, 0.7, 40), rng.normal(1, 1, 60)])

    def model(y):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(2)))
        loc = numpyro.sample("loc", ordered_normal(2, 3))
        scale = numpyro.sample("scale", dist.LogNormal(0, 0.5).expand([2]).to_event(1))
        with numpyro.plate("rows", len(y)):
            k = numpyro.sample("k", dist.Categorical(p), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Normal(loc[k], scale[k]), obs=y)

    return model, {"y": y}


@example("NumPyro: mixture with labels that may switch (bad geometry)")
def switching_labels(rng):
    y = np.concatenate([rng.normal(-2, 1, 30), rng.normal(2, 1, 30)])

    def model(y):
        loc = numpyro.sample("loc", dist.Normal(0, 3).expand([2]).to_event(1))
        parts = dist.MixtureSameFamily(dist.Categorical(probs=jnp.ones(2) / 2), dist.Normal(loc, 1.0))
        numpyro.sample("y", parts, obs=y)

    return model, {"y": y}


@example("NumPyro: Dirichlet process by stick breaking")
def stick_breaking(rng):
    y = np.concatenate([rng.normal(-3, 0.5, 40), rng.normal(0, 0.5, 25), rng.normal(3, 0.5, 15)])

    def model(y):
        parts = numpyro.sample("parts", dist.Beta(1, 2).expand([2]).to_event(1))
        rest = jnp.concatenate([jnp.ones(1), jnp.cumprod(1 - parts)])
        p = rest * jnp.concatenate([parts, jnp.ones(1)])
        loc = numpyro.sample("loc", ordered_normal(3, 4))
        scale = numpyro.sample("scale", dist.Gamma(4, 6))
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(probs=p), dist.Normal(loc, scale)), obs=y)

    return model, {"y": y}


@example("NumPyro: hidden Markov model, states summed out")
def hidden_markov(rng):
    states = np.cumsum(rng.random(60) < 0.15) % 2
    y = np.where(states, 2.0, -1.0) + 0.7 * rng.normal(size=60)

    def model(y):
        stay = numpyro.sample("stay", dist.Beta(8, 2).expand([2]).to_event(1))
        loc = numpyro.sample("loc", ordered_normal(2, 3))
        scale = numpyro.sample("scale", dist.LogNormal(-0.5, 0.5))
        matrix = jnp.stack([jnp.stack([stay[0], 1 - stay[0]]), jnp.stack([1 - stay[1], stay[1]])])

        def step(last, now):
            state = numpyro.sample("state", dist.Categorical(matrix[last]), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Normal(loc[state], scale), obs=now)
            return state, None

        scan(step, 0, y)

    return model, {"y": y}


@example("NumPyro: capture, mark and recapture")
def capture_recapture(rng):
    alive = np.cumprod(np.column_stack([np.ones(40), rng.random((40, 5)) < 0.8]), 1)
    seen = (alive * (rng.random((40, 6)) < 0.6)).astype(int)
    seen[:, 0] = 1

    def model(seen):
        survival, found = numpyro.sample("survival", dist.Uniform(0, 1)), numpyro.sample("found", dist.Uniform(0, 1))

        def step(alive, now):
            with numpyro.plate("animals", len(seen)):
                alive = numpyro.sample("alive", dist.Bernoulli(survival * alive), infer={"enumerate": "parallel"})
                numpyro.sample("seen", dist.Bernoulli(found * alive), obs=now)
            return alive, None

        scan(step, jnp.ones(len(seen), int), seen[:, 1:].T)

    return model, {"seen": jnp.asarray(seen)}


@example("NumPyro: annotators with different abilities")
def annotators(rng):
    truth = rng.integers(0, 2, 30)
    votes = np.where(rng.random((30, 4)) < [0.9, 0.8, 0.7, 0.85], truth[:, None], 1 - truth[:, None])

    def model(votes):
        share = numpyro.sample("share", dist.Beta(2, 2))
        with numpyro.plate("annotators", votes.shape[1]):
            skill = numpyro.sample("skill", dist.Beta(8, 2))
        with numpyro.plate("items", len(votes), dim=-2):
            kind = numpyro.sample("kind", dist.Bernoulli(share), infer={"enumerate": "parallel"})
            with numpyro.plate("voters", votes.shape[1], dim=-1):
                numpyro.sample("votes", dist.Bernoulli(jnp.where(kind == 1, skill, 1 - skill)), obs=votes)

    return model, {"votes": votes}


@example("NumPyro: binary predictors that are missing, summed out")
def missing_binary(rng):
    smoker = rng.integers(0, 2, 60)
    y = 1.0 + 1.5 * smoker + rng.normal(size=60)
    known = rng.random(60) < 0.7

    def model(smoker, known, y):
        share = numpyro.sample("share", dist.Beta(2, 2))
        a, b = numpyro.sample("a", dist.Normal(0, 2)), numpyro.sample("b", dist.Normal(0, 2))
        scale = numpyro.sample("scale", dist.HalfNormal(2))
        rows = np.flatnonzero(~known)
        with numpyro.plate("known", len(y) - len(rows)):
            numpyro.sample("smoker", dist.Bernoulli(share), obs=smoker[known])
            numpyro.sample("y_known", dist.Normal(a + b * smoker[known], scale), obs=y[known])
        with numpyro.plate("unknown", len(rows)):
            guess = numpyro.sample("guess", dist.Bernoulli(share), infer={"enumerate": "parallel"})
            numpyro.sample("y_unknown", dist.Normal(a + b * guess, scale), obs=y[rows])

    return model, {"smoker": smoker, "known": known, "y": y}


@example("NumPyro: a Poisson number of animals (cannot be enumerated)")
def hidden_counts(rng):
    def model(y):
        rate = numpyro.sample("rate", dist.Gamma(2, 0.1))
        number = numpyro.sample("number", dist.Poisson(rate))
        numpyro.sample("y", dist.Binomial(number, 0.5), obs=y)

    return model, {"y": np.array([7, 9, 8])}
