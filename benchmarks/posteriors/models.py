"""The posteriors as NumPyro models, in the plain way a user would write them.

Flat priors are `ImproperUniform`; Cauchy and normal priors of positive variables are half-Cauchy and half-normal. The
constants that this adds to the log evidence of the reference are in `registry`. The two models of the eight schools are
in `pushforward.examples`.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from numpyro.distributions import constraints

# Of the Runge-Kutta method for lotka_volterra.
STEPS_A_YEAR = 16


def lotka_volterra(y_init, y):
    theta = numpyro.sample(
        "theta", dist.TruncatedNormal(jnp.array([1, 0.05, 1, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05]), low=0)
    )
    sigma = numpyro.sample("sigma", dist.LogNormal(-1, 1).expand([2]).to_event(1))
    z_init = numpyro.sample("z_init", dist.LogNormal(jnp.log(10), 1).expand([2]).to_event(1))
    log_z = log_populations(theta, jnp.log(z_init), len(y))
    numpyro.sample("y_init", dist.LogNormal(jnp.log(z_init), sigma), obs=y_init)
    numpyro.sample("y", dist.LogNormal(log_z, sigma), obs=y)


def log_populations(theta: Float[Array, "4"], log_z: Float[Array, "2"], num_years: int) -> Float[Array, "years 2"]:
    """Logarithms of prey and predators after each year, by Runge and Kutta's method of order 4.

    Steps of fixed length keep the density smooth and let both modes of differentiation through. The log-density
    is right to 2e-5 nats at the reference draws (1e-6 with twice the steps); Diffrax's Dopri8 with four steps a year,
    right to 1e-8, took ten times as long.
    """
    prey_birth, hunting, predator_death, predator_birth = theta
    step = 1 / STEPS_A_YEAR

    def slope(log_z):
        prey, predators = jnp.exp(log_z)
        return jnp.stack([prey_birth - hunting * predators, predator_birth * prey - predator_death])

    def advance(log_z, _):
        k1 = slope(log_z)
        k2 = slope(log_z + step / 2 * k1)
        k3 = slope(log_z + step / 2 * k2)
        k4 = slope(log_z + step * k3)
        return log_z + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    def year(log_z, _):
        log_z, _ = jax.lax.scan(advance, log_z, length=STEPS_A_YEAR)
        return log_z, log_z

    return jax.lax.scan(year, log_z, length=num_years)[1]


def hmm_drive(alpha, u, v, tau, rho):
    transitions = [numpyro.sample(f"theta{k + 1}", dist.Dirichlet(alpha[k])) for k in range(2)]
    phi = numpyro.sample("phi", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    lambda_ = numpyro.sample("lambda", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    prior = dist.Normal(jnp.array([0, 3]), 1).to_event(1)
    numpyro.factor("prior", prior.log_prob(phi) + prior.log_prob(lambda_))
    log_emission = dist.Normal(phi, tau).log_prob(u[:, None]) + dist.Normal(lambda_, rho).log_prob(v[:, None])
    numpyro.factor("likelihood", forward_algorithm(jnp.log(jnp.stack(transitions)), log_emission))


def hmm_example(y):
    transitions = [numpyro.sample(f"theta{k + 1}", dist.Dirichlet(jnp.ones(2))) for k in range(2)]
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    numpyro.factor("prior", dist.Normal(jnp.array([3, 10]), 1).log_prob(mu).sum())
    log_emission = dist.Normal(mu, 1).log_prob(y[:, None])
    numpyro.factor("likelihood", forward_algorithm(jnp.log(jnp.stack(transitions)), log_emission))


def forward_algorithm(
    log_transition: Float[Array, "states states"], log_emission: Float[Array, "times states"]
) -> Float[Array, ""]:
    """The log-likelihood of a hidden Markov chain whose first state has probability one, whichever it is."""

    def step(log_alpha, log_emission):
        return logsumexp(log_alpha[:, None] + log_transition, axis=0) + log_emission, None

    return logsumexp(jax.lax.scan(step, log_emission[0], log_emission[1:])[0])


def autoregression(lags, y):
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([lags.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def diamonds(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    intercept = numpyro.sample("Intercept", dist.StudentT(3, 8, 10))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3, 0, 10)))
    numpyro.sample("y", dist.Normal(intercept + x @ b, sigma), obs=y)


def flat_regression(x, y):
    beta = numpyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def cauchy_regression(x, y):
    beta = numpyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def normal_regression(x, y):
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def kilpisjarvi(x, y, pmualpha, psalpha, pmubeta, psbeta):
    alpha = numpyro.sample("alpha", dist.Normal(pmualpha, psalpha))
    beta = numpyro.sample("beta", dist.Normal(pmubeta, psbeta))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def low_dim_gauss_mix(y):
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    numpyro.factor("prior", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    weights = dist.Categorical(probs=jnp.stack([theta, 1 - theta]))
    numpyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)


def gaussian_process(x, y):
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    kernel = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x) / rho) ** 2) + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(0, scale_tril=jnp.linalg.cholesky(kernel)), obs=y)


def logistic_regression(x, y):
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)
