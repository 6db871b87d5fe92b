"""Regressions in NumPyro: each function makes data and returns a model with its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from benchmarks.gallery.registry import example


def design(rng, rows, columns):
    return np.column_stack([np.ones(rows), rng.normal(size=(rows, columns))])


def weights(name, size, scale=2.0):
    return numpyro.sample(name, dist.Normal(0, scale).expand([size]).to_event(1))


@example("NumPyro: Bayesian regression")
def linear_regression(rng):
    x = design(rng, 50, 2)

    def model(x, y):
        w = weights("w", x.shape[1])
        scale = numpyro.sample("scale", dist.Exponential(1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(x @ w, scale), obs=y)

    return model, {"x": x, "y": x @ [0.2, -0.6, 0.4] + 0.8 * rng.normal(size=50)}


@example("NumPyro: regression with measurement errors of predictor and outcome")
def measurement_error(rng):
    truth = rng.normal(size=20)
    data = {"x": truth + 0.3 * rng.normal(size=20), "y": 0.5 - truth + 0.4 * rng.normal(size=20), "noise": 0.3}

    def model(x, y, noise):
        a, b = numpyro.sample("a", dist.Normal(0, 1)), numpyro.sample("b", dist.Normal(0, 1))
        scale = numpyro.sample("scale", dist.Exponential(1))
        with numpyro.plate("rows", len(x)):
            true = numpyro.sample("true", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(true, noise), obs=x)
            numpyro.sample("y", dist.Normal(a + b * true, scale), obs=y)

    return model, data


@example("NumPyro: logistic regression (covertype)")
def logistic_regression(rng):
    x = design(rng, 300, 5)
    y = rng.random(300) < 1 / (1 + np.exp(-x @ [0.5, 1, -1, 0, 2, 0.3]))

    def model(x, y):
        numpyro.sample("y", dist.Bernoulli(logits=x @ weights("w", x.shape[1])), obs=y)

    return model, {"x": x, "y": y.astype(int)}


@example("NumPyro: tall data with a subsampled plate (HMCECS)")
def subsampled_logistic(rng):
    x = design(rng, 2000, 3)
    y = (rng.random(2000) < 1 / (1 + np.exp(-x @ [0.2, 1, -1, 0.5]))).astype(int)

    def model(x, y, size):
        w = weights("w", x.shape[1])
        with numpyro.plate("rows", len(x), subsample_size=size):
            x_batch, y_batch = numpyro.subsample(x, event_dim=1), numpyro.subsample(y, event_dim=0)
            numpyro.sample("y", dist.Bernoulli(logits=x_batch @ w), obs=y_batch)

    return model, {"x": x, "y": y, "size": 500}


@example("NumPyro: sparse regression with a regularized horseshoe")
def horseshoe(rng):
    x = rng.normal(size=(60, 8))
    y = 2 * x[:, 0] - x[:, 3] + 0.5 * rng.normal(size=60)

    def model(x, y):
        size = x.shape[1]
        overall = numpyro.sample("overall", dist.HalfCauchy(0.3))
        local = numpyro.sample("local", dist.HalfCauchy(jnp.ones(size)).to_event(1))
        slab = numpyro.sample("slab", dist.InverseGamma(2, 4))
        z = weights("z", size, 1.0)
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        shrunk = jnp.sqrt(slab) * local / jnp.sqrt(slab + (overall * local) ** 2)
        numpyro.sample("y", dist.Normal(x @ (z * overall * shrunk), noise), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: ordinal regression")
def ordinal_regression(rng):
    x = rng.normal(size=120)
    y = np.digitize(1.5 * x + rng.logistic(size=120), [-1.0, 0.5, 2.0])

    def model(x, y):
        slope = numpyro.sample("slope", dist.Normal(0, 2))
        ordered = dist.TransformedDistribution(
            dist.Normal(0, 3).expand([3]).to_event(1), dist.transforms.OrderedTransform()
        )
        cuts = numpyro.sample("cuts", ordered)
        numpyro.sample("y", dist.OrderedLogistic(slope * x, cuts), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: ordinal regression with a Dirichlet prior for the categories")
def ordinal_dirichlet(rng):
    x = rng.normal(size=80)
    y = np.digitize(x + rng.logistic(size=80), [-0.5, 1.0])

    def model(x, y):
        slope = numpyro.sample("slope", dist.Normal(0, 2))
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
        cuts = jax.scipy.special.logit(jnp.cumsum(p)[:-1])
        numpyro.sample("y", dist.OrderedLogistic(slope * x, cuts), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: zero-inflated Poisson (fishing trips)")
def zero_inflated_poisson(rng):
    x = design(rng, 150, 1)
    y = rng.poisson(np.exp(x @ [0.8, 0.5])) * (rng.random(150) < 0.7)

    def model(x, y):
        w = weights("w", 2)
        gate = numpyro.sample("gate", dist.Beta(1, 1))
        numpyro.sample("y", dist.ZeroInflatedPoisson(gate, jnp.exp(x @ w)), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: truncated and censored observations")
def censored_normal(rng):
    times = rng.normal(2, 1.5, size=80)

    def model(y, censored):
        loc = numpyro.sample("loc", dist.Normal(0, 3))
        scale = numpyro.sample("scale", dist.HalfNormal(3))
        free = dist.Normal(loc, scale)
        terms = jnp.where(censored, jnp.log1p(-free.cdf(y)), free.log_prob(y))
        numpyro.factor("y", terms.sum())

    return model, {"y": np.minimum(times, 3.0), "censored": times > 3}


@example("NumPyro: truncated distributions with an unknown lower end")
def truncated_normal(rng):
    y = rng.normal(1, 2, size=400)

    def model(y):
        low = numpyro.sample("low", dist.TruncatedNormal(-1, 1, high=y.min()))
        loc = numpyro.sample("loc", dist.Normal(0, 3))
        scale = numpyro.sample("scale", dist.HalfNormal(3))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.LeftTruncatedDistribution(dist.Normal(loc, scale), low=low), obs=y)

    # NumPyro's NUTS does not take NumPy arrays as observations with latent bounds.
    return model, {"y": jnp.asarray(y[y > -0.5][:150])}


@example("NumPyro: regression of quantiles by asymmetric Laplace errors")
def quantile_regression(rng):
    x = design(rng, 120, 1)
    y = x @ [1, 2] + rng.gumbel(size=120)

    def model(x, y):
        w = weights("w", 2, 5.0)
        scale = numpyro.sample("scale", dist.HalfNormal(2))
        numpyro.sample("y", dist.AsymmetricLaplaceQuantile(x @ w, scale, quantile=0.9), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: missing ages imputed (Titanic)")
def missing_values(rng):
    age = rng.normal(size=80)
    y = (rng.random(80) < 1 / (1 + np.exp(0.5 + age))).astype(int)
    lost = np.sort(rng.choice(80, 12, replace=False))

    def model(age, lost, y):
        center, spread = numpyro.sample("center", dist.Normal(0, 1)), numpyro.sample("spread", dist.HalfNormal(1))
        imputed = numpyro.sample("imputed", dist.Normal(center, spread).expand([len(lost)]).mask(False))
        age = jnp.asarray(age).at[lost].set(imputed)
        numpyro.sample("age", dist.Normal(center, spread), obs=age)
        w = weights("w", 2)
        numpyro.sample("y", dist.Bernoulli(logits=w[0] + w[1] * age), obs=y)

    return model, {"age": np.where(np.isin(np.arange(80), lost), 0.0, age), "lost": lost, "y": y}


@example("NumPyro: Bayesian neural network")
def neural_network(rng):
    x = np.linspace(-1, 1, 40)
    y = np.tanh(3 * x) + 0.1 * rng.normal(size=40)

    def model(x, y):
        hidden = jnp.tanh(x[:, None] * weights("w1", 2, 1.0) + weights("b1", 2, 1.0))
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        numpyro.sample("y", dist.Normal(hidden @ weights("w2", 2, 1.0), noise), obs=y)

    return model, {"x": x, "y": y}


@example("NumPyro: multinomial (softmax) regression")
def softmax_regression(rng):
    x = design(rng, 150, 2)
    scores = np.column_stack([np.zeros(150), x @ [0.5, 1, 0], x @ [-0.5, 0, 1]]) + rng.gumbel(size=(150, 3))

    def model(x, y):
        w = numpyro.sample("w", dist.Normal(0, 2).expand([x.shape[1], 2]).to_event(2))
        logits = jnp.concatenate([jnp.zeros((len(x), 1)), x @ w], 1)
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)

    return model, {"x": x, "y": scores.argmax(1)}
