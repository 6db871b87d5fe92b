"""Supports, circles and steps of columns."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.density.data import columns

GOOD = np.random.default_rng(0).normal(size=(60, 3))
COUNTS = np.random.default_rng(0).poisson(3.0, (60, 2)).astype(float)
NAMES = ["a", "b"]
LABELS = ["column 0 (a)", "column 1 (b)"]


def fit(x, dim=None, **options):
    flow = pf.flows.linear(dim or np.shape(x)[1], key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "max_epochs": 1} | options
    return pf.fit_density(x, progress=False, **options)


@pytest.mark.conformance
def test_error_if_a_step_does_not_divide_the_period():
    x = np.stack([7.0 * (np.arange(60) % 51), GOOD[:, 0]], 1)
    flow = pf.flows.circular(2, angles=[True, False], num_layers=1, hidden=(4,), bins=4, key=jr.key(0))
    options = {"support": {0: pf.Circular(360.0)}, "flow": flow}
    with pytest.raises(
        ValueError, match=r"step of 7 does not divide its period of 360; declare another step, .* discrete=\{0: 1.0\}"
    ):
        fit(x, discrete=[0], **options)
    assert np.isfinite(fit(x, discrete={0: 1.0}, **options).log_prob(x)).all()


def test_error_if_several_columns_have_a_name():
    frame = pandas.DataFrame(np.abs(GOOD), columns=["a", "a", "b"])
    with pytest.raises(ValueError, match="x has several columns a; rename them, or give other names"):
        fit(frame)
    with pytest.raises(ValueError, match="condition has several columns a"):
        fit(GOOD, condition=frame)
    assert fit(frame, names=["a", "c", "b"]).columns == ("a", "c", "b")


def test_supports_and_discrete_columns_by_name():
    box, circles = columns.parse_support({"b": constraints.positive}, NAMES, LABELS)
    assert box.ends == ((-np.inf, np.inf), (0.0, np.inf)) and circles == (None, None)
    assert columns.parse_support(None, NAMES, LABELS)[0].ends == ((-np.inf, np.inf),) * 2
    assert columns.parse_support([pf.Circular(), None], NAMES, LABELS)[1] == ((0.0, 2 * np.pi), None)
    for discrete in (["b"], [1], {"b"}, [False, True], np.array([False, True]), np.array([1])):
        assert columns.parse_discrete(discrete, NAMES, LABELS) == {1: None}
    assert columns.parse_discrete({"b": 2.0}, NAMES, LABELS) == {1: 2.0}
    assert fit(np.abs(GOOD), support={1: constraints.positive}).log_prob(-np.ones(3)) == -np.inf


def test_steps_of_a_file_are_found_from_all_rows(tmp_path):
    x = np.stack([COUNTS[:, 0] * 2, GOOD[:, 0]], 1)
    x[57, 0] += 1
    np.save(tmp_path / "x.npy", x)
    for rows_at_once in (20, 100):
        fit(tmp_path / "x.npy", 2, discrete=[0], rows_at_once=rows_at_once)
    x[57, 0] += 0.3
    np.save(tmp_path / "x.npy", x)
    for rows_at_once in (20, 100):
        with pytest.raises(ValueError, match=r"column 0 \(x0\) of x is not discrete"):
            fit(tmp_path / "x.npy", 2, discrete={0: 1.0}, rows_at_once=rows_at_once)


def test_step_of_decimal_numbers_with_rounding_errors():
    values = np.concatenate([0.1 * np.arange(10), np.cumsum(np.full(10, 0.1))])[:, None]
    steps = columns.find_steps([(None, values)], {0: None}, ["column 0"])
    np.testing.assert_allclose(steps, 0.1)


def test_angles_move_by_whole_turns():
    """Those inside their interval keep their bits, also of NumPy's double precision in JAX's single precision."""
    x = np.array([[-np.pi, 0.1], [0.1, 7.0], [7.0, -7.0]])
    expected = np.array([[-np.pi, 0.1], [0.1, 7.0], [7.0 - 2 * np.pi, -7.0]])
    with jax.enable_x64(False):
        np.testing.assert_array_equal(columns.wrap(x, [(-np.pi, np.pi), None]), expected)
        wrapped = columns.wrap(jnp.asarray(x, "float32"), [(-np.pi, np.pi), None])
        assert wrapped.dtype == jnp.float32
        np.testing.assert_allclose(wrapped[1:], expected[1:], rtol=1e-5)
    assert columns.wrap(x, None) is x and columns.wrap(x, (None, None)) is x


@pytest.mark.parametrize(
    "support",
    [
        constraints.interval(5.0, -5.0),
        constraints.interval(5.0, 5.0),
        constraints.interval(np.nan, 5.0),
        constraints.greater_than(np.nan),
        constraints.greater_than(np.inf),
        constraints.interval(-1.7e308, 1.7e308),
        constraints.interval(1.0, 1.0 + 1e-17),
    ],
)
def test_ends_that_are_not_in_order_or_too_far_apart(support):
    match = f"the support of {re.escape(LABELS[1])} must have its lower end below its upper, at a distance"
    with pytest.raises(ValueError, match=match):
        columns.parse_support([None, support], NAMES, LABELS)


def test_an_interval_has_two_ends():
    with pytest.raises(ValueError, match=r"must be one interval, but its ends are \[0. 1.\] and 5"):
        columns.parse_support([constraints.interval(np.array([0.0, 1.0]), 5.0), None], NAMES, LABELS)


@pytest.mark.parametrize(("period", "lower"), [(0.0, 0.0), (np.nan, 0.0), (1.0, 1e20), (1e308, 1.7e308), (1.0, np.inf)])
def test_circles_without_a_period(period, lower):
    with pytest.raises(ValueError, match="positive, finite period|must be a number that is finite"):
        pf.Circular(period, lower)
