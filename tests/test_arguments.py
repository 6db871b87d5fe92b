"""Bad arguments of fits end in an error that names the argument, before the training begins."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest

import pushforward as pf
from pushforward.arguments import NUMBER, POSITIVE, Range, checked, is_key
from pushforward.training.run import Run
from training_cases import simple_flow

KEY = jr.key(0)


def log_density(x):
    return -0.5 * jnp.sum(x**2)


def train(**options):
    return pf.train(**{"model": simple_flow(), "objective": pf.ReverseKL(log_density), "key": KEY} | options)


class Began(Exception):
    """The training has begun: the arguments are accepted."""


@pytest.fixture(autouse=True)
def stop_before_training(monkeypatch):
    def begin(run):
        raise Began

    monkeypatch.setattr(Run, "__enter__", begin)
    # As for users.
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BAD = (object(), "nonsense", dict, 2.5, math.nan, -1, [], 1j, b"bytes", {1}, np.zeros(2), np.array(["a"]))
PARAMETERS = ("objective", "key", "steps", "optimizer", "batches", "num_evaluations", "stopping", "callback")


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_bad_arguments_of_a_training(parameter):
    for value in BAD:
        with pytest.raises((TypeError, ValueError), match=rf"^{parameter} must be .*, but is .*, in train\.$"):
            train(**{parameter: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": 0}, "key must be a random key, such as jax.random.key.0., but is 0"),
        ({"optimizer": 1e-3}, "optimizer must be .*GradientTransformation.*but is 0.001"),
        ({"steps": True}, "steps must be a whole number between 1 and .*but is True"),
        ({"steps": 10**30}, "steps must be a whole number between 1 and 2,147,483,647"),
        ({"objective": pf.ReverseKL}, "objective must be .*the class ReverseKL instead of an instance"),
    ],
)
def test_messages(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        train(**options)


def test_fits_of_posteriors_take_keys():
    target = pf.Target(log_density, jnp.zeros(2))
    with pytest.raises(TypeError, match="key must be a random key.*but is 0, in fit_posterior"):
        pf.fit_posterior(target, key=0)
    with pytest.raises(TypeError, match="fit_posterior: missing a required.*key"):
        pf.fit_posterior(target)
    with pytest.raises(ValueError, match="budget must be a positive whole number.*nan"):
        pf.fit_posterior(target, key=KEY, budget=math.nan)


@pytest.mark.parametrize("missed_mass", [math.nan, -0.1, 1.5, "0.5", None])
def test_a_missed_mass_is_a_fraction(missed_mass):
    with pytest.raises((TypeError, ValueError), match="missed_mass must be a number between 0 and 1, but is"):
        pf.diagnose(np.zeros(200), missed_mass=missed_mass)


def test_fits_say_that_they_need_concrete_values():
    def fit(x):
        train(batches=pf.training.Rows(x[None] + jnp.zeros((4, 2))))
        return x.sum()

    for transform in (jax.jit, jax.grad):
        with pytest.raises(TypeError, match="train needs concrete values, but its argument .* is traced"):
            transform(fit)(jnp.ones(2))


def test_valid_arguments_are_taken():
    with pytest.raises(Began):
        train(optimizer=optax.adam(1e-3), steps=np.int64(3), stopping=pf.training.EarlyStopping(2), progress=False)
    assert all(map(is_key, (jr.key(0), jr.PRNGKey(0), jr.key(0, impl="rbg"), jr.PRNGKey(0, impl="rbg"))))
    assert not any(map(is_key, (0, None, jr.split(jr.key(0)), np.zeros(2), "0")))


def test_ranges():
    assert 1e-320 in POSITIVE and 0 not in POSITIVE and 10**400 in POSITIVE and math.inf not in NUMBER
    assert 1 in Range(0, 1) and 1 not in Range(0, 1, open=True) and math.nan not in NUMBER
    assert f"{Range(0, 1, open=True)}" == "between 0 and 1, both excluded"


def test_entries_of_sequences_are_checked():
    @checked(number=POSITIVE)
    def function(number: float, pairs: tuple[tuple[float, float] | None, ...] = ()):
        """Text."""
        return number

    assert function.__doc__ == "Text." and function(2) == 2 and function(1.0, (None, (0, 1))) == 1
    with pytest.raises(ValueError, match=r"pairs\[0\] must have 2 entries"):
        function(1.0, ((0, 1, 2),))
