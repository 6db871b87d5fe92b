"""Density estimation: known densities are found, in the units of the data; bad data are refused before any training."""

import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from numpyro.distributions import constraints

import pushforward as pf
from products import few, first
from pushforward.density.baselines import gaussian
from pushforward.density.data import validation
from training_cases import Killed


def fit(x, **options):
    return pf.fit_density(x, key=jr.key(0), progress=False, **options)


def correlated(rng, size):
    return rng.normal(size=(size, 2)) @ np.array([[200.0, 0.0], [150.0, 50.0]]) + 1000


@pytest.mark.conformance
def test_a_gaussian_in_its_own_units():
    rng = np.random.default_rng(0)
    x, fresh = correlated(rng, 2000), correlated(rng, 2000)
    flow = fit(x)
    exact = scipy.stats.multivariate_normal(x.mean(0), np.cov(x.T)).logpdf(fresh).mean()
    assert np.mean(flow.log_prob(fresh)) > exact - 0.06
    np.testing.assert_allclose(flow.sample(jr.key(1), (4000,)).mean(0), x.mean(0), atol=0.1 * x.std(0).max())


@pytest.mark.conformance
def test_a_conditional_density_on_the_positive_numbers():
    rng = np.random.default_rng(0)

    def draw(size):
        c, z = 5 + rng.normal(size=(size, 1)), 0.3 * rng.normal(size=(size, 1))
        return np.exp(np.sin(2 * c) + z), c, scipy.stats.norm.logpdf(z[:, 0], 0, 0.3)

    x, c, _ = draw(2000)
    flow = fit(x, condition=c, support=constraints.positive)
    x, c, log_normal = draw(2000)
    assert np.mean(flow.log_prob(x, c)) > np.mean(log_normal - np.log(x[:, 0])) - 0.1
    assert flow.log_prob(jnp.array([-1.0]), jnp.array([5.0])) == -jnp.inf
    assert jnp.all(flow.sample(jr.key(1), (100,), jnp.array([5.0])) > 0)


@pytest.mark.conformance
def test_weights_count_rows():
    """Rows of one half count nothing."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-3, 1, (400, 1)), rng.normal(3, 1, (400, 1))])
    flow = fit(x, weights=np.repeat([0.0, 1.0], 400), max_epochs=200)
    assert flow.sample(jr.key(1), (500,)).mean() == pytest.approx(3, abs=0.3)


def test_a_given_flow_and_single_precision():
    with jax.enable_x64(False):
        x = correlated(np.random.default_rng(0), 500)
        flow = fit(x, flow=pf.flows.maf(2, key=jr.key(1), num_layers=2, hidden=(8,)), max_epochs=5)
        log_prob = flow.log_prob(x)
        assert log_prob.dtype == jnp.float32 and jnp.isfinite(log_prob).all()


def test_a_training_that_diverges_goes_on_at_a_lower_learning_rate():
    """It is not taken for early stopping, which would return the initial flow."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    x[:, 1] += x[:, 0] ** 2
    flow = pf.flows.realnvp(2, key=jr.key(1), num_layers=2, hidden=(8,))
    density = fit(x, flow=flow, learning_rate=3.0, max_epochs=200, patience=10)
    stages = dict.fromkeys(record.stage for record in density.history.evaluations)
    assert list(stages) == ["training", "restart 1", "decay"]
    assert "result" not in dict(density.facts)


def test_training_ends_when_patience_does():
    stops = []

    def stop(progress):
        stops.append(progress.step)
        return len(stops) == 3

    objective = pf.ForwardKL(np.random.default_rng(0).normal(size=(50, 2)))
    flow = pf.flows.linear(2, key=jr.key(0))
    _, history = pf.train(flow, objective, key=jr.key(0), steps=100, num_evaluations=10, callback=stop)
    assert stops == [10, 20, 30] and history.losses.shape == (30,)


@pytest.mark.conformance
def test_the_learning_rate_decays_when_patience_ends_before_it_had():
    rng, seen = np.random.default_rng(0), []
    x = rng.normal(size=(60, 3))
    flow = pf.fit_density(x, key=jr.key(0), patience=3, progress=False, callback=seen.append)
    steps, losses = (np.array([getattr(p, name) for p in seen]) for name in ("step", "loss"))
    best = np.argmin(losses)
    ends = np.flatnonzero(np.diff(steps) < 20)[0]  # evaluations come every 20 steps, and then more often
    assert ends < 40 and (np.diff(steps) > 0).all() and best > ends - 4
    assert losses[best] <= losses[: ends + 1].min()
    # The parameters that did best are returned: far better than what so many steps of so few rows end with.
    fresh = rng.normal(size=(2000, 3))
    assert -np.mean(flow.log_prob(fresh)) < 3 * (0.5 * np.log(2 * np.pi) + 0.5) + 0.5


GOOD = np.random.default_rng(0).normal(size=(60, 3))


def with_value(row, column, value):
    return np.where((np.arange(60)[:, None] == row) & (np.arange(3) == column), value, GOOD)


@pytest.mark.parametrize(
    ("x", "options", "match"),
    [
        (with_value(7, 1, np.nan), {}, "1 values that are NaN or infinite, the first in row 7, column 1"),
        (with_value(7, 1, np.inf), {"names": ["a", "b", "c"]}, r"row 7, column 1 \(b\)"),
        (GOOD * np.array([1, 0, 1]), {}, "column 1 of x is constant, 0"),
        (GOOD[:, [0, 1, 0]], {}, "column 2 of x equals column 0"),
        (GOOD[:1], {}, r"at least two rows, but x has shape \(1, 3\)"),
        (GOOD[:, 0], {}, r"x\[:, None\] converts it to one column"),
        (
            np.array([["1", "one"], ["2", "two"]]),
            {},
            "column 1 of x holds 'one' in row 0, which is a str_, not a number",
        ),
        (GOOD, {"condition": np.zeros((59, 1))}, "the same number of rows, but have 60 and 59"),
        (GOOD, {"condition": np.zeros((60, 1))}, "column 0 of condition is constant"),
        (GOOD, {"weights": np.ones(59)}, r"weights must have shape \(60,\)"),
        (GOOD, {"weights": -np.ones(60)}, "not negative"),
        (GOOD, {"support": constraints.positive}, "not inside their support, the first in row 0"),
        (GOOD, {"support": [constraints.real]}, "one for each of 3 columns, but has 1"),
        (GOOD, {"support": constraints.simplex}, "interval"),
        (GOOD, {"discrete": [1]}, "column 1 of x is not discrete"),
        (np.round(GOOD), {"discrete": {1: 0.3}}, "not a whole number of steps of 0.3"),
        (GOOD, {"discrete": ["a"]}, "no column a"),
        (GOOD, {"discrete": [3]}, "discrete refers to column 3"),
        (GOOD, {"names": ["a"]}, "one entry for each of 3 columns"),
        (GOOD, {"validation": 0.0}, "0 < validation < 1"),
        (GOOD, {"flow": pf.flows.linear(2, key=jr.key(0))}, r"must have shape \(3,\)"),
    ],
)
def test_refused_data(x, options, match):
    with pytest.raises(ValueError, match=match):
        fit(x, **options)


@pytest.mark.conformance
def test_a_discrete_column_has_probabilities():
    """The integral over a value's step is its probability; counts are positive numbers, and 0 is one of them."""
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, (3000, 1)) / 10
    flow = pf.flows.nsf(1, key=jr.key(0), num_layers=1, hidden=(4,), bins=16)
    options = {"support": constraints.positive, "names": ["rate"], "flow": flow, "max_epochs": 200}
    flow = fit(x, discrete=["rate"], **options)
    points = 0.1 * (np.arange(12)[:, None] + (np.arange(50) + 0.5) / 50)
    probability = np.exp(flow.log_prob(points[..., None])).mean(1) * 0.1
    assert np.abs(probability - scipy.stats.poisson(2.0).pmf(np.arange(12))).sum() < 0.1
    draws = np.asarray(flow.sample(jr.key(1), 500))[:, 0]
    np.testing.assert_allclose(draws * 10, np.round(draws * 10), atol=1e-9)


@pytest.mark.conformance
def test_steps_on_a_circle_may_lead_over_its_seam():
    rng = np.random.default_rng(0)
    angles = 10.0 * rng.integers(0, 36, 400) + 5.0
    x = np.stack([angles, rng.normal(size=400)], 1)
    flow = pf.fit_density(
        x, key=jr.key(0), support=[pf.Circular(360.0), constraints.real], discrete=[0], max_epochs=3, progress=False
    )
    assert np.isfinite(flow.log_prob(x)).all()
    drawn = np.asarray(flow.sample(jr.key(1), 500))[:, 0]
    assert set(np.round(drawn, 3)) <= set(10.0 * np.arange(36) + 5.0)


def test_bad_splits_and_sums_of_columns():
    x = np.random.default_rng(0).normal(size=(3, 1))
    with pytest.raises(ValueError, match="weights are positive"):
        pf.fit_density(x, key=jr.key(0), weights=[1.0, 0.0, 0.0], validation=0.9, progress=False)
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows = np.concatenate([rows, rows.sum(1, keepdims=True)], 1)
    assert np.isfinite(gaussian(rows, rows)).all()
    with pytest.raises(ValueError, match="equals column 0"):
        validation.check_samples([(np.arange(50), rows[:, [0, 1, 0]])], (50, 3), [f"column {i}" for i in range(3)])


@pytest.mark.parametrize(
    ("distribution", "slack"),
    first((scipy.stats.cauchy(5.0, 2.0), 0.05), (scipy.stats.lognorm(2.5), 0.1), (scipy.stats.t(2.0), 0.02)),
)
def test_heavy_tails(distribution, slack):
    rng = np.random.default_rng(0)
    x, fresh = distribution.rvs((2, 4000, 1), random_state=rng)
    flow = fit(x, max_epochs=60)
    assert np.mean(flow.log_prob(fresh)) > np.mean(distribution.logpdf(fresh)) - slack


def test_rows_of_weight_zero_move_nothing():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(500, 1)), np.full((500, 1), 1e6) + rng.normal(size=(500, 1))])
    c = x + rng.normal(size=(1000, 1))
    options = {"weights": np.repeat([1.0, 0.0], 500), "max_epochs": 5}
    linear = pf.flows.linear(1, key=jr.key(0))
    assert np.mean(fit(x, flow=linear, **options).log_prob(x[:500])) > -1.5
    given = pf.flows.maf(1, key=jr.key(0), cond_dim=1, num_layers=1, hidden=(4,))
    flow = fit(x, flow=given, condition=c, **options)
    np.testing.assert_allclose(flow.flow.bijection.bijections[0].moments.value[1], np.sqrt(2), rtol=0.1)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (GOOD * [1e-3, 1, 1] + [1e6, 0, 0], "column 0 of x has values as large as 1e.06 that differ by .* subtract an"),
        (GOOD * [1, 1e39, 1], "values that float32 cannot hold, the first in row 1, column 1.*enable_x64"),
        (GOOD @ [[1, 0, 1], [0, 1, 1], [0, 0, 0]], "column 0, column 1, column 2 of x are linearly dependent"),
        (np.stack([GOOD[:, 0], GOOD[:, 1], 3 + 0.1 * GOOD[:, 0]], 1), "column 0, column 2 of x are linearly"),
        (np.ma.masked_less(GOOD, -1), "masked values"),
        (GOOD + 1j, "complex"),
    ],
)
def test_refused_in_single_precision(x, match):
    with jax.enable_x64(False), pytest.raises(ValueError, match=match):
        fit(x)


@pytest.mark.conformance
def test_columns_that_are_nearly_dependent_are_taken():
    x = np.stack([GOOD[:, 0], GOOD[:, 0] + 1e-5 * GOOD[:, 1]], 1)
    for wide in (True, False):
        with jax.enable_x64(wide):
            flow = fit(x, flow=pf.flows.linear(2, key=jr.key(0)), max_epochs=1, learning_rate=1e-9)
            assert np.mean(flow.log_prob(x)) > 8


def test_names_of_a_file(tmp_path):
    x = np.random.default_rng(0).poisson(3.0, (80, 1))
    np.savetxt(tmp_path / "x.csv", np.concatenate([GOOD[:, :1], x[:60]], 1), delimiter=",", header="a,b", comments="")
    flow = fit(tmp_path / "x.csv", discrete=["b"], flow=pf.flows.linear(2, key=jr.key(0)), max_epochs=1)
    assert flow.columns == ("a", "b")
    with pytest.raises(ValueError, match=r"the columns are a, b"):
        fit(tmp_path / "x.csv", discrete=["c"])


def test_spread_is_measured_over_all_parts(tmp_path):
    """Sorted numbers, which are near to each other in each part alone."""
    with jax.enable_x64(False):
        x = np.stack([1e6 + np.linspace(0, 2000, 4000), np.random.default_rng(0).normal(size=4000)], 1) + 1e-3
        np.save(tmp_path / "x.npy", x)
        flow = fit(tmp_path / "x.npy", flow=pf.flows.linear(2, key=jr.key(0)), max_epochs=1, rows_at_once=50)
        assert np.isfinite(flow.log_prob(x)).all()


def test_a_column_that_is_constant_where_weights_are_positive():
    x = np.where((np.arange(60)[:, None] < 30) & (np.arange(3) == 1), 2.0, GOOD)
    with pytest.raises(ValueError, match="column 1 of x is constant, 2"):
        fit(x, weights=np.repeat([1.0, 0.0], 30))


@pytest.mark.parametrize("weighted", few([False, True], True))
def test_correlations_of_few_rows(weighted):
    """Before training; without a share of the identity the first is off by 14 nats."""
    rng = np.random.default_rng(0)
    options = {"flow": pf.flows.linear(20, key=jr.key(0)), "max_epochs": 1, "learning_rate": 1e-9}
    equal = scipy.stats.multivariate_normal(np.zeros(20), 0.5 * np.ones((20, 20)) + 0.5 * np.eye(20))
    x, fresh = equal.rvs(40, random_state=rng), equal.rvs(2000, random_state=rng)
    if weighted:
        x = np.concatenate([x, 100 + rng.normal(size=(40, 20))])
        options["weights"] = np.repeat([1.0, 0.0], 40)
    assert np.mean(equal.logpdf(fresh) - fit(x, **options).log_prob(fresh)) < 2


@pytest.mark.conformance
def test_a_table_given_five_times_is_fitted_as_well():
    rng = np.random.default_rng(0)
    x, fresh = rng.normal(size=(150, 2)), rng.normal(size=(4000, 2))
    flow = pf.flows.arnsf(2, key=jr.key(0), num_layers=1, hidden=(16,), fast="density")
    options = {"key": jr.key(0), "flow": flow, "learning_rate": 0.03, "progress": False, "max_epochs": 300}
    copied = pf.fit_density(np.tile(x, (5, 1)), **options)
    assert -np.mean(copied.log_prob(fresh)) < 3.1  # 2.84 is the entropy


# Interruptions and checkpoints.


def small_fit(x=None, path=None, callback=None, **options):
    flow = pf.flows.maf(2, key=jr.key(1), num_layers=1, hidden=(8,))
    options = {"max_epochs": 60, "patience": 3} | options
    x = correlated(np.random.default_rng(0), 300) if x is None else x
    return pf.fit_density(x, key=jr.key(0), flow=flow, checkpoint=path, callback=callback, **options)


def assert_same(one, other):
    """The same bits in all arrays, and the same history apart from times."""
    for a, b in zip(jax.tree.leaves(one.flow), jax.tree.leaves(other.flow), strict=True):
        assert not eqx.is_array(a) or np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert one.history.losses.tobytes() == other.history.losses.tobytes()
    records = [[r._replace(seconds=0.0) for r in density.history.evaluations] for density in (one, other)]
    assert str(records[0]) == str(records[1])


@pytest.mark.parametrize("kind", few(["array", "weights", "file"], "weights"))
def test_a_killed_fit_resumes_to_the_bit(kind, tmp_path):
    x = correlated(np.random.default_rng(0), 300)
    options = {}
    if kind == "weights":
        noise = np.random.default_rng(1).normal(size=(300, 1))
        options = {"weights": np.linspace(0, 1, 300), "condition": (x @ [[1.0], [1.0]]) + noise, "flow": None}
        options["flow"] = pf.flows.maf(2, key=jr.key(1), num_layers=1, hidden=(8,), cond_dim=1)
    if kind == "file":
        np.save(tmp_path / "x.npy", x)
        x, options = tmp_path / "x.npy", {"rows_at_once": 100}

    def fit(callback=None, path=tmp_path / "checkpoint"):
        arguments = {"flow": pf.flows.maf(2, key=jr.key(1), num_layers=1, hidden=(8,)), **options}
        return pf.fit_density(
            x, key=jr.key(0), checkpoint=path, callback=callback, max_epochs=60, patience=3, **arguments
        )

    whole, stages = fit(path=None), []
    for stage, count in (("training", 2), ("decay", 3)):

        def kill(progress, stage=stage, count=count):
            stages.append(progress.stage)
            if stages.count(stage) == count:
                raise Killed

        with pytest.raises(Killed):
            fit(kill)
    if kind == "file":
        # The content is compared, not the path.
        (tmp_path / "x.npy").rename(tmp_path / "y.npy")
        x = tmp_path / "y.npy"
    assert_same(fit(), whole)
    assert_same(fit(), whole)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"x": correlated(np.random.default_rng(1), 300)}, "x"),
        ({"weights": np.ones(300)}, "weights"),
        ({"patience": 4}, "patience"),
        ({"discrete": []}, None),
        ({"batch_size": 100}, "batch_size"),
    ],
)
def test_the_checkpoint_of_another_fit(change, what, tmp_path):
    path = tmp_path / "checkpoint"
    small_fit(path=path, max_epochs=2)
    if what is None:
        small_fit(path=path, max_epochs=2, **change)
        return
    with pytest.raises(ValueError, match=f"another fit, which differs in: {what}"):
        small_fit(**{"path": path, "max_epochs": 2} | change)


def test_ctrl_c_keeps_the_best():
    losses = []

    def press(progress):
        losses.append(progress.loss)
        if len(losses) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted after .* steps"):
        density = small_fit(callback=press)
    assert density.interrupted and len(losses) == 3 and density.summary()["ended by"] == "the user"
    x = correlated(np.random.default_rng(2), 2000)
    assert np.mean(density.log_prob(x)) > gaussian(x, x).mean() - 0.3


def test_the_callback_has_flows_in_the_units_of_the_data():
    x, seen = correlated(np.random.default_rng(0), 300), []

    def stop(progress):
        seen.append(progress)
        return len(seen) == 2

    density = small_fit(x, callback=stop)
    assert density.interrupted and seen[-1].stage == "training"
    for progress in seen:
        assert -np.mean(progress.model.log_prob(x)) == pytest.approx(progress.loss, abs=0.5)
    np.testing.assert_allclose(seen[-1].model.sample(jr.key(0), (2000,)).mean(0), x.mean(0), atol=0.2 * x.std(0).max())


def test_nothing_is_printed(capfd):
    small_fit(max_epochs=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("size", "cond_dim", "copies"), [(2, 0, 1), (4, 0, 1), (4, 3, 1), (4, 0, 20)])
def test_few_rows_give_a_gaussian_with_shrunk_correlations(size, cond_dim, copies):
    rng = np.random.default_rng(0)
    x, condition = (np.tile(rng.normal(size=(size, dim)), (copies, 1)) for dim in (6, cond_dim))
    options = {"condition": condition} if cond_dim else {}
    with pytest.warns(
        UserWarning, match="no more rows than columns are distinct, so the correlations of all 6 columns"
    ):
        flow = pf.flows.linear(6, key=jr.key(0), cond_dim=cond_dim or None)
        density = pf.fit_density(x, key=jr.key(0), flow=flow, **options)
    assert len(density.history.losses) == 0 and "too few rows" in density.summary()["result"]
    assert np.isfinite(density.log_prob(x, **options)).all()
    if not cond_dim:
        draws = np.asarray(density.sample(jr.key(1), (4000,)))
        np.testing.assert_allclose(draws.std(0), x.std(0), rtol=0.1)
