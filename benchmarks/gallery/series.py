"""Time series in NumPyro: each function makes data and returns a model with its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

from benchmarks.gallery.registry import example


@example("NumPyro: autoregression of order 2, by scan")
def autoregression(rng):
    y = np.zeros(80)
    for t in range(2, 80):
        y[t] = 0.2 + 0.5 * y[t - 1] + 0.3 * y[t - 2] + rng.normal()

    def model(y):
        first = numpyro.sample("first", dist.Normal(0, 1))
        second = numpyro.sample("second", dist.Normal(0, 1))
        level, noise = numpyro.sample("level", dist.Normal(0, 1)), numpyro.sample("noise", dist.HalfNormal(1))

        def step(last, now):
            mean = level + first * last[0] + second * last[1]
            now = numpyro.sample("y", dist.Normal(mean, noise), obs=now)
            return (now, last[0]), None

        scan(step, (y[1], y[0]), y[2:])

    return model, {"y": jnp.asarray(y)}


@example("NumPyro: stochastic volatility")
def stochastic_volatility(rng):
    y = np.exp(np.cumsum(0.2 * rng.normal(size=40)) / 2) * rng.standard_t(6, size=40)

    def model(y):
        step, nu = numpyro.sample("step", dist.Exponential(5)), numpyro.sample("nu", dist.Exponential(0.1))
        volatility = numpyro.sample("volatility", dist.GaussianRandomWalk(step, len(y)))
        numpyro.sample("y", dist.StudentT(nu, 0, jnp.exp(volatility / 2)).to_event(1), obs=y)

    return model, {"y": y}


@example("NumPyro: Holt-Winters exponential smoothing, by scan")
def holt_winters(rng):
    season = 4
    times = np.arange(48)
    y = 5 + 0.1 * times + np.tile([1.0, -0.5, -1.0, 0.5], 12) + 0.3 * rng.normal(size=48)

    def model(y):
        weights = numpyro.sample("weights", dist.Beta(2, 5).expand([3]).to_event(1))
        level, trend = numpyro.sample("level", dist.Normal(5, 3)), numpyro.sample("trend", dist.Normal(0, 0.5))
        seasons = numpyro.sample("seasons", dist.Normal(0, 1).expand([season]).to_event(1))
        noise = numpyro.sample("noise", dist.HalfNormal(1))

        def step(state, now):
            level, trend, seasons = state
            mean = level + trend + seasons[0]
            now = numpyro.sample("y", dist.Normal(mean, noise), obs=now)
            higher = weights[0] * (now - seasons[0]) + (1 - weights[0]) * (level + trend)
            trend = weights[1] * (higher - level) + (1 - weights[1]) * trend
            newest = weights[2] * (now - higher) + (1 - weights[2]) * seasons[0]
            return (higher, trend, jnp.append(seasons[1:], newest)), None

        scan(step, (level, trend, seasons), y)

    return model, {"y": y}


@example("NumPyro: global trend with power and Student's t errors")
def global_trend(rng):
    times = np.arange(1, 61) / 10
    y = 2 * times**0.7 + 0.4 * rng.standard_t(4, size=60)

    def model(times, y):
        size, power = numpyro.sample("size", dist.HalfNormal(3)), numpyro.sample("power", dist.Uniform(-0.5, 1.2))
        nu, scale = numpyro.sample("nu", dist.Uniform(2, 20)), numpyro.sample("scale", dist.HalfCauchy(1))
        numpyro.sample("y", dist.StudentT(nu, size * times**power, scale), obs=y)

    return model, {"times": times, "y": y}


@example("NumPyro: local level with drift (hierarchical forecasting)")
def local_level(rng):
    y = np.cumsum(0.1 + 0.3 * rng.normal(size=25)) + 0.3 * rng.normal(size=25)

    def model(y):
        drift, step = numpyro.sample("drift", dist.Normal(0, 1)), numpyro.sample("step", dist.HalfNormal(1))
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        jumps = numpyro.sample("jumps", dist.Normal(0, 1).expand([len(y)]).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.cumsum(drift + step * jumps), noise), obs=y)

    return model, {"y": y}


@example("NumPyro: predator and prey, an equation solved by Diffrax")
def predator_prey(rng):
    times = np.linspace(0.5, 12, 16)
    truth = solve(jnp.array([0.6, 0.03, 0.8, 0.03]), jnp.array([30.0, 5.0]), times)
    counts = np.asarray(truth) * np.exp(0.2 * rng.normal(size=(16, 2)))

    def model(times, counts):
        scales = jnp.array([0.5, 0.05, 0.5, 0.05])
        rates = numpyro.sample(
            "rates", dist.TruncatedNormal(jnp.array([1.0, 0.05, 1.0, 0.05]), scales, low=1e-4).to_event(1)
        )
        start = numpyro.sample("start", dist.LogNormal(jnp.log(10.0), 1).expand([2]).to_event(1))
        noise = numpyro.sample("noise", dist.LogNormal(-1, 1).expand([2]).to_event(1))
        numpyro.sample("counts", dist.LogNormal(jnp.log(solve(rates, start, times)), noise), obs=counts)

    return model, {"times": times, "counts": counts}


def solve(rates, start, times):
    import diffrax

    def growth(t, sizes, rates):
        prey, hunters = sizes
        meetings = prey * hunters
        return jnp.stack([rates[0] * prey - rates[1] * meetings, rates[3] * meetings - rates[2] * hunters])

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(growth), diffrax.Tsit5(), 0.0, times[-1], 0.05, start, rates,
        saveat=diffrax.SaveAt(ts=jnp.asarray(times)), max_steps=2000, throw=False,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    )  # fmt: skip
    return jnp.clip(solution.ys, 1e-9, 1e9)


@example("NumPyro: an epidemic, by Runge-Kutta steps of our own")
def epidemic(rng):
    def infected(rate, recovery, days):
        def slope(s):
            return jnp.stack([-rate * s[0] * s[1], rate * s[0] * s[1] - recovery * s[1]])

        def step(s, _):
            a = slope(s)
            b = slope(s + a / 2)
            c = slope(s + b / 2)
            s = s + (a + 2 * b + 2 * c + slope(s + c)) / 6
            return s, s[1]

        return jax.lax.scan(step, jnp.array([0.99, 0.01]), None, length=days)[1]

    cases = rng.poisson(500 * np.asarray(infected(0.6, 0.2, 30)))

    def model(cases):
        rate, recovery = numpyro.sample("rate", dist.LogNormal(-0.5, 1)), numpyro.sample("recovery", dist.Beta(2, 5))
        size = numpyro.sample("size", dist.LogNormal(3, 1))
        mean = 500 * infected(rate, recovery, len(cases)) + 1e-6
        numpyro.sample("cases", dist.NegativeBinomial2(mean, size), obs=cases)

    return model, {"cases": cases}
