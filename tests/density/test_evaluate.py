"""Evaluations: scores that are known, calibration that is seen, rows that are refused."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import pushforward as pf
from pushforward import bijections as bj
from pushforward.density.evaluate import Samples, evaluate

RNG = np.random.default_rng(2)
TEST = RNG.normal(size=(500, 2)) * [1.0, 3.0]
TRAINING = Samples(RNG.normal(size=(2000, 2)) * [1.0, 3.0])
COLUMNS = ("a", "b")


def gaussian(scales):
    return pf.Flow(dist.Normal(jnp.zeros(2), jnp.array(scales)).to_event(1), bj.Identity((2,)))


def test_scores_and_calibration_of_the_exact_density():
    found = evaluate(gaussian([1.0, 3.0]), Samples(TEST), TRAINING, COLUMNS, np.zeros(2), jr.key(0))
    exact = scipy.stats.norm.logpdf(TEST, 0, [1.0, 3.0]).sum(1)
    assert found.scores["flow"] == pytest.approx((exact.mean(), exact.std() / 500**0.5))
    for name in ("Gaussian", "mixture of Gaussians"):
        assert found.scores[name].mean == pytest.approx(exact.mean(), abs=0.02)
    assert found.miscalibrated == [] and found.num_rows == 500
    words = " ".join(str(found).split())
    assert "log-likelihood of 500 test rows" in words and "flow -" in words and "mixture: 1 component," in words
    assert "<td>mixture of Gaussians" in found._repr_html_()


def test_a_column_that_is_too_wide_is_named():
    found = evaluate(gaussian([1.0, 6.0]), Samples(TEST), None, COLUMNS, np.zeros(2), jr.key(0))
    assert found.miscalibrated == ["b"] and "band (5% level for all together): b" in found.calibration
    assert list(found.scores) == ["flow"] and "training rows" in found.mixture


def test_discrete_values_are_dequantized():
    counts = RNG.poisson(5.0, (1000, 1)).astype(float)
    uniform = pf.Flow(dist.Uniform(jnp.zeros(1), 20.0).to_event(1), bj.Identity((1,)))
    found = evaluate(uniform, Samples(counts), Samples(counts), ("n",), np.ones(1), jr.key(0))
    assert found.scores["flow"].mean == pytest.approx(-np.log(20))
    np.testing.assert_array_equal(np.floor(found.data["n"]), counts[:, 0])
    # A Gaussian of the values themselves would have a higher score: it would be a density of other numbers.
    exact = scipy.stats.norm(5.5, (5 + 1 / 12) ** 0.5)
    assert found.scores["Gaussian"].mean == pytest.approx(exact.logpdf(found.data["n"]).mean(), abs=0.01)


def test_conditional_densities_and_weights():
    c = np.random.default_rng(0).normal(size=(600, 1))
    shift = bj.Amortized(bj.Elementwise(bj.Shift(), 1), pf.bijections.MLP(1, 1, (), key=jr.key(0)), (1,))
    flow = pf.Flow(dist.Normal(jnp.zeros(1), 1.0).to_event(1), shift)
    x = np.asarray(flow.sample(jr.key(0), (), c))
    training = Samples(np.concatenate([x, x + 100]), np.tile(c, (2, 1)), np.repeat([1.0, 0.0], 600))
    found = evaluate(flow, Samples(x, c), training, ("x",), np.zeros(1), jr.key(9))
    assert found.miscalibrated == []
    assert found.scores["Gaussian"].mean == pytest.approx(found.scores["flow"].mean, abs=0.03)
    wrong = evaluate(flow, Samples(x + 1, c), None, ("x",), np.zeros(1), jr.key(0))
    assert wrong.miscalibrated == ["x"]


def test_very_many_rows_are_evaluated_in_parts(monkeypatch):
    whole = evaluate(gaussian([1.0, 3.0]), Samples(TEST), None, COLUMNS, np.zeros(2), jr.key(0))
    monkeypatch.setattr("pushforward.density.evaluate.ROWS_TOGETHER", 150)
    parts = evaluate(gaussian([1.0, 3.0]), Samples(TEST), None, COLUMNS, np.zeros(2), jr.key(0))
    assert parts.scores["flow"] == pytest.approx(whole.scores["flow"])


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ((TEST[:, :1],), r"x_test must have 2 columns, x0, x1, but has shape \(500, 1\)"),
        ((np.where(np.arange(500)[:, None] == 7, np.nan, TEST),), "row 7, column 0"),
        ((TEST, TEST), "is unconditional"),
        ((TEST[0],), r"x_test\[:, None\]"),
    ],
)
def test_refused_rows(rows, match):
    with pytest.raises(ValueError, match=match):
        pf.Density.of(gaussian([1.0, 3.0])).evaluate(*rows, key=jr.key(0))


def test_refused_conditions():
    flow = pf.flows.maf(2, key=jr.key(0), cond_dim=1, num_layers=1, hidden=(4,))
    density = pf.Density.of(flow)
    for condition, match in ((None, "needs values of c0"), (TEST[:9, :1], "equally many rows, but have 500 and 9")):
        with pytest.raises(ValueError, match=match):
            density.evaluate(TEST, condition, key=jr.key(0))


def test_one_training_row_has_no_baselines():
    found = evaluate(gaussian([1.0, 3.0]), Samples(TEST), Samples(TEST[:1]), COLUMNS, np.zeros(2), jr.key(0))
    assert list(found.scores) == ["flow"] and "no covariance" in found.mixture
