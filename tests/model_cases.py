"""Kinds of NumPyro models with their arguments: targets take what NUTS takes, with the same density."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import eqx_module, random_eqx_module

X = np.linspace(-1.0, 1.0, 6)
Y = np.array([0.3, -0.4, 0.1, 0.8, 0.5, 1.2])
GROUPS = np.array([0, 2, 1, 0, 2, 1])
LABELS = ["a", "c", "b", "a", "c", "b"]


@dataclasses.dataclass
class Table:
    x: np.ndarray
    y: np.ndarray
    unit: str = "m"


@dataclasses.dataclass
class Case:
    """A model and its arguments.

    Attributes:
        kind: what is special about it, for the documents.
        model: the model.
        args: its positional arguments.
        nuts: the arguments with which NUTS takes the model, if they differ.
        warns: a warning of the target, as a regular expression.
        predicted: the observed site whose predictions have the shape of the observations; None if there is none.
    """

    kind: str
    model: Callable
    args: tuple = ()
    nuts: tuple | None = None
    warns: str | None = None
    predicted: str | None = "y"


CASES: dict[str, Case] = {}


def case(kind: str, *args: Any, **options: Any) -> Callable:
    """Add a model to the table."""

    def add(model):
        assert model.__name__ not in CASES
        CASES[model.__name__] = Case(kind, model, args, **options)
        return model

    return add


def coefficients():
    return numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1)), numpyro.sample("s", dist.HalfNormal(1))


@case("likelihood without a plate, scalar parameters", Y)
def no_plate(y):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0], s), obs=y)


@case("missing plate next to a plate", Y, warns="missing a plate.*at the site y")
def missing_plate(y):
    b, s = coefficients()
    with numpyro.plate("pairs", 2, dim=-1):
        numpyro.sample("y", dist.Normal(b[0], s), obs=y.reshape(3, 2))


@case("numpyro.param with a function of a key", X, Y, warns="parameters w .*held fixed")
def param_of_key(x, y):
    b, s = coefficients()
    w = numpyro.param("w", lambda key: jr.normal(key, (2,)))
    numpyro.sample("y", dist.Normal(b[0] + w[0] * x + w[1], s), obs=y)


@case("numpyro.param with a constraint", X, Y, warns="parameters w ")
def constrained_param(x, y):
    b, s = coefficients()
    w = numpyro.param("w", 2.0, constraint=dist.constraints.positive)
    numpyro.sample("y", dist.Normal(b[0] + w * x, s), obs=y)


@case("numpyro.param that nothing uses", Y)
def unused_param(y):
    b, s = coefficients()
    numpyro.param("w", jnp.ones(3))
    numpyro.sample("y", dist.Normal(b[0], s), obs=y)


@case("numpyro.prng_key in the model", Y, warns="random numbers .*held fixed")
def key_in_model(y):
    b, s = coefficients()
    noise = jr.normal(numpyro.prng_key(), (6,))
    numpyro.sample("y", dist.Normal(b[0] + noise, s), obs=y)


class Line(eqx.Module):
    weight: jax.Array
    bias: jax.Array

    def __init__(self, key):
        self.weight, self.bias = jr.normal(key), jnp.zeros(())

    def __call__(self, x):
        return self.weight * x + self.bias


@case("network without priors", X, Y, warns="parameters line.*held fixed")
def network(x, y):
    b, s = coefficients()
    line = eqx_module("line", Line(numpyro.prng_key()))
    numpyro.sample("y", dist.Normal(b[0] + line(x), s), obs=y)


@case("network with a prior for all weights", X, Y)
def random_network(x, y):
    line = random_eqx_module("line", Line(jr.key(3)), prior=dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(line(x), 0.5), obs=y)


@case("network with a prior for some weights", X, Y, warns="bias.*held fixed")
def partly_random_network(x, y):
    line = random_eqx_module("line", Line(jr.key(3)), prior={"weight": dist.Normal(0, 1)})
    numpyro.sample("y", dist.Normal(line(x), 0.5), obs=y)


@case("labels as strings", LABELS, Y)
def text_labels(labels, y):
    names = sorted(set(labels))
    with numpyro.plate("group", len(names)):
        m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(m[jnp.array([names.index(n) for n in labels])], 1.0), obs=y)


@case("NumPy array of strings, in a dict", {"labels": np.array(LABELS), "y": Y})
def text_array_in_dict(data):
    names, groups = np.unique(data["labels"], return_inverse=True)
    with numpyro.plate("group", len(names)):
        m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(m[groups], 1.0), obs=data["y"])


@case("data frame", pd.DataFrame({"x": X, "y": Y, "label": LABELS}))
def data_frame(frame):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0] + b[1] * frame["x"].to_numpy(), s), obs=frame["y"].to_numpy())


@case("series", pd.Series(X), pd.Series(Y))
def series(x, y):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0] + b[1] * jnp.asarray(x), s), obs=y.to_numpy())


@case("dataclass", Table(X, Y))
def dataclass_argument(table):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0] + b[1] * table.x, s), obs=table.y)


@case("dates", np.array(["2020-01-01", "2020-01-03"] * 3, "datetime64[D]"), datetime.date(2020, 1, 1), Y)
def dates(days, first, y):
    b, s = coefficients()
    x = (days - np.datetime64(first)).astype(float)
    numpyro.sample("y", dist.Normal(b[0] + b[1] * x, s), obs=y)


@case("set and dict with keys of several types", {1, 3}, {1: X, "y": Y})
def mixed_containers(chosen, data):
    b, s = coefficients()
    x = data[1] * (1.0 if 3 in chosen else 0.0)
    numpyro.sample("y", dist.Normal(b[0] + b[1] * x, s), obs=data["y"])


@case("function and option as arguments", jnp.tanh, "tanh", None, X, Y)
def function_argument(fn, option, nothing, x, y):
    b, s = coefficients()
    assert option == "tanh" and nothing is None
    numpyro.sample("y", dist.Normal(b[0] + fn(x), s), obs=y)


@case("lists of numbers", X.tolist(), Y.tolist())
def lists(x, y):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0] + b[1] * jnp.array(x), s), obs=jnp.array(y))


@case("size from the data, bounded observations", GROUPS, np.abs(Y), nuts=(GROUPS, jnp.abs(Y)))
def size_from_data(groups, y):
    with numpyro.plate("group", int(groups.max()) + 1):
        top = numpyro.sample("top", dist.LogNormal(2.0, 0.1))
    numpyro.sample("y", dist.Uniform(0.0, top[groups]), obs=y)


@case("size from JAX arrays", jnp.asarray(GROUPS), jnp.asarray(Y))
def size_from_jax(groups, y):
    with numpyro.plate("group", int(groups.max()) + 1):
        m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.TruncatedNormal(m[groups], 1.0, low=m.min() - 9, high=m.max() + 9), obs=y)


@case("boolean indexing", GROUPS > 0, Y)
def boolean_index(chosen, y):
    b, s = coefficients()
    numpyro.sample("y", dist.Normal(b[0], s), obs=y[chosen])


@case("truncated likelihood with a scalar observation", 0.3)
def scalar_observation(y):
    b, s = coefficients()
    numpyro.sample("y", dist.Uniform(-1 - s, 1 + s), obs=y)


@case("missing values masked", np.array([0.3, np.nan, 0.1]))
def masked(y):
    b, s = coefficients()
    with numpyro.handlers.mask(mask=~np.isnan(y)):
        numpyro.sample("y", dist.Normal(b[0], s), obs=np.nan_to_num(y))


@case("factor", X, predicted=None)
def factor(x):
    b, s = coefficients()
    numpyro.factor("penalty", -jnp.sum((b[0] - x) ** 2) / s**2)


@case("scan", Y)
def autoregression(y):
    b, s = coefficients()

    def step(last, now):
        now = numpyro.sample("y", dist.Normal(jnp.tanh(b[0]) * last, s), obs=now)
        return now, None

    scan(step, 0.0, y)


@case("mixture, discrete sites summed out", Y)
def mixture(y):
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    m = numpyro.sample("m", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("rows", len(y)):
        k = numpyro.sample("k", dist.Categorical(w), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(m[k], 1.0), obs=y)


@case("hidden Markov model by scan", Y, predicted=None)
def hidden_markov(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones((2, 2))).to_event(1))
    m = numpyro.sample("m", dist.Normal(0, 3).expand([2]).to_event(1))

    def step(last, now):
        state = numpyro.sample("k", dist.Categorical(p[last]), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(m[state], 1.0), obs=now)
        return state, None

    scan(step, 0, y)


@case("discrete site without a mark, deterministic of it", Y, warns="shift depend on discrete")
def changepoint(y):
    b, s = coefficients()
    when = numpyro.sample("when", dist.DiscreteUniform(0, 5))
    shift = numpyro.deterministic("shift", b[1] * (jnp.arange(6) >= when[..., None]))
    numpyro.deterministic("twice", 2 * b[0])
    numpyro.sample("y", dist.Normal(b[0] + shift, s).to_event(1), obs=y)
