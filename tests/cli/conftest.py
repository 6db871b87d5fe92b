"""Fixtures of the command line."""

import json

import jax
import numpy as np
import pytest

from table_cases import write

RNG = np.random.default_rng(0)
SIZE = RNG.gamma(3.0, 2.0, 300)
DATA = np.stack([SIZE, RNG.poisson(SIZE), np.degrees(RNG.vonmises(0, 2, 300)) % 360, RNG.normal(size=300)], axis=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.csv", DATA)
    return tmp_path


@pytest.fixture(autouse=True)
def _precision():
    """The commands set it."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


MODEL = """
import numpyro, numpyro.distributions as dist
from numpyro.infer import Predictive

def normal(y, width=5.0):
    mu = numpyro.sample("mu", dist.Normal(0, width))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

def discrete(y):
    numpyro.sample("which", dist.Bernoulli(0.5))

def broken(y):
    raise RuntimeError("out of cheese")

def unlikely(y):
    x = numpyro.sample("x", dist.Normal(0, 1))
    numpyro.factor("never", -float("inf"))

constant = 3
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODEL)
    (tmp_path / "data.json").write_text(json.dumps({"y": [1.0, 2.0, 3.0]}))
    return tmp_path
