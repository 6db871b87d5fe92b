"""The density that a fit returns: names, draws of discrete columns, files, reports, and files of version 0.1.0."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pandas
import pytest

import pushforward as pf
from pushforward import bijections as bj
from pushforward.density import Density
from pushforward.density.result import NO_HISTORY

RNG = np.random.default_rng(0)
FRAME = pandas.DataFrame({"size": RNG.gamma(3.0, size=200), "count": RNG.poisson(4.0, 200)})
GIVEN = pandas.DataFrame({"age": RNG.normal(size=200)})


def fit(x, cond_dim=None, **options):
    flow = pf.flows.maf(2, key=jr.key(0), cond_dim=cond_dim, num_layers=1, hidden=(4,))
    return pf.fit_density(x, key=jr.key(0), flow=flow, max_epochs=1, **options)


@pytest.fixture(scope="module")
def density():
    return fit(FRAME, discrete=["count"])


@pytest.fixture(scope="module")
def conditional():
    return fit(FRAME, 1, condition=GIVEN, discrete=["count"])


def test_draws(density):
    assert density.columns == ("size", "count") and density.condition_names == ()
    assert density.sample(jr.key(0)).shape == (2,)
    assert density.sample(jr.key(0), (3, 4)).shape == (3, 4, 2)
    draws = density.sample(jr.key(0), 500)
    assert draws.shape == (500, 2) and jnp.all(draws[:, 1] % 1 == 0) and jnp.any(draws[:, 0] % 1 != 0)
    np.testing.assert_allclose(jax.jit(lambda key: density.sample(key, 500))(jr.key(0)), draws, rtol=1e-9)


def test_columns_of_a_frame_are_found_by_name(density, conditional):
    values = FRAME.to_numpy(float)
    np.testing.assert_array_equal(density.log_prob(FRAME), density.log_prob(values))
    np.testing.assert_array_equal(density.log_prob(FRAME[["count", "size"]]), density.log_prob(values))
    np.testing.assert_array_equal(density.flow.log_prob(values), density.log_prob(values))
    same = conditional.log_prob(values, GIVEN)
    np.testing.assert_array_equal(conditional.log_prob(values, {"age": GIVEN["age"].to_numpy()}), same)


def test_conditions_by_name(conditional):
    assert conditional.condition_names == ("age",)
    draws = conditional.sample(jr.key(0), 3, {"age": 0.5})
    np.testing.assert_array_equal(draws, conditional.sample(jr.key(0), (3,), np.array([0.5])))
    assert conditional.sample(jr.key(0), 3, GIVEN).shape == (3, 200, 2)
    with pytest.raises(ValueError, match="it needs values of age"):
        conditional.sample(jr.key(0), 3)
    with pytest.raises(ValueError, match="is not conditional on b; it is conditional on age"):
        conditional.log_prob(FRAME, {"age": 1.0, "b": 2.0})


def test_files_keep_no_rows(density, conditional, tmp_path):
    for one, rows in ((density, (FRAME,)), (conditional, (FRAME, GIVEN))):
        one.save(tmp_path / "density")
        loaded = pf.load(tmp_path / "density")
        assert loaded.training is None and loaded.validation is None and one.training is not None
        np.testing.assert_array_equal(loaded.log_prob(*rows), one.log_prob(*rows))
        assert str(loaded.summary()) == str(one.summary())
        before, after = one.evaluate(*rows, baselines=False), loaded.evaluate(*rows)
        assert after.scores == before.scores and list(after.scores) == ["flow"] and "files do not keep" in str(after)
        loaded.report(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text()
        assert "Verdict: not evaluated" in text and ("<td>size<td>" in text) == (one is density)
        loaded.report(tmp_path / "report.html", after)
        assert (tmp_path / "report.html").read_text().count('<figure class="chart"') == 2


def test_summary_plot_and_report(density, conditional, tmp_path):
    facts = density.summary()
    assert facts["rows"] == 200 and facts["validation rows"] == 20 and facts["steps"] == 1
    assert facts["validation log-likelihood"] == -np.min(density.history.series("loss"))
    assert conditional.summary()["condition"] == "age"
    for one in (density, conditional):
        assert "<td>size, count" in one._repr_html_() and one.plot().axes
        one.report(tmp_path / "page.html", title="<b>", warnings=["careful & slow"])
        page = (tmp_path / "page.html").read_text()
        assert "&lt;b&gt;" in page and "careful &amp; slow" in page and "20 validation rows" in page
        assert page.count('<figure class="chart"') == 2 and "pf.fit_density(x, key=" in page


def test_names_that_are_not_given():
    x = RNG.normal(size=(50, 2))
    density = fit(x, 1, condition=RNG.normal(size=(50, 1)))
    assert density.columns == ("x0", "x1") and density.condition_names == ("c0",)
    density = fit(x, 1, condition=RNG.normal(size=(50, 1)), names=["a", "b"], condition_names=["c"])
    assert density.columns == ("a", "b") and density.condition_names == ("c",)


def test_flows_as_densities():
    flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,), cond_dim=1)
    density = Density.of(flow)
    assert density.columns == ("x0", "x1") and density.condition_names == ("c0",)
    assert density.sample(jr.key(0), 3, {"c0": 1.0}).shape == (3, 2)
    with pytest.raises(ValueError, match="pass one"):
        density.evaluate(np.zeros((3, 2)), np.zeros((3, 1)))
    assert np.isfinite(density.evaluate(np.zeros((3, 2)), np.zeros((3, 1)), key=jr.key(0)).scores["flow"].mean)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        Density.of(pf.Flow(dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(2), bj.Identity((2, 2))))


def test_fields_of_version_0_1_0():
    flow = pf.flows.linear(2, key=jr.key(0))
    old = {"flow": flow, "columns": ("a", "b"), "given": (), "grids": None}
    fields = Density.upgraded_fields(old)
    assert fields["grids"] == (None, None) and fields["history"] is NO_HISTORY
    assert Density(**fields).sample(jr.key(0), 3).shape == (3, 2)
    assert Density.upgraded_fields({"flow": flow, "columns": ("a",)})["condition_names"] == ()
    assert Density.upgraded_fields({**old, "given": ("c",)})["condition_names"] == ("c",)
