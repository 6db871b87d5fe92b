"""Markov chains that a flow preconditions: exact, however wrong the flow is."""

import pickle

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.bijections import Triangular
from pushforward.flows.stack import standard_normal
from pushforward.posterior.refine import run_chains
from pushforward.training import History


def density(x):
    """A gamma variable and, given it, a normal one: means 1.5 and 0, standard deviations 0.87 and 1.22."""
    rate = dist.Gamma(3.0, 2.0).log_prob(x["rate"])
    return rate + dist.Normal(0.0, jnp.sqrt(x["rate"])).log_prob(x["y"])


EXAMPLE = {"rate": jnp.array(1.0), "y": jnp.array(0.0)}
TARGET = pf.Target(density, EXAMPLE, {"rate": constraints.positive, "y": constraints.real})
NO_HISTORY = History(np.zeros(0), ())
# Wider than the posterior, and off: no good fit.
ROUGH = pf.Flow(standard_normal(2), Triangular(2, jnp.array([0.5, 0.3]), jnp.array([[1.1, 0.0], [0.2, 1.8]])))


@pytest.mark.parametrize("method", ["nuts", "independence"])
def test_chains_are_exact(method):
    chains = run_chains(TARGET, ROUGH, jr.key(0), method=method, num_samples=4000, num_warmup=300)
    assert chains.verdict == "good" and chains.rhat < 1.01 and chains.ess > 1500
    draws = chains.draws
    assert draws["rate"].shape == (4, 4000) and draws["rate"].min() > 0
    error = 5 / np.sqrt(chains.ess)
    np.testing.assert_allclose(draws["rate"].mean(), 1.5, atol=0.87 * error)
    np.testing.assert_allclose(draws["rate"].std(), 0.866, atol=0.87 * error)
    np.testing.assert_allclose(draws["y"].mean(), 0.0, atol=1.22 * error)
    np.testing.assert_allclose(draws["y"].std(), np.sqrt(1.5), atol=1.22 * error)
    assert chains.to_arviz()["posterior"]["rate"].shape == (4, 4000)


def test_a_proposal_that_misses_the_tails_is_found_out():
    narrow = pf.Flow(standard_normal(2), Triangular(2, jnp.array([0.0, 0.0]), 0.15 * jnp.eye(2)))
    chains = run_chains(TARGET, narrow, jr.key(0), method="independence", num_samples=500)
    assert chains.verdict == "unreliable" and any("R-hat" in r or "effective sample size" in r for r in chains.reasons)


def test_from_a_posterior(tmp_path):
    u, log_q = ROUGH.sample_and_log_prob(jr.key(2), (1000,))
    log_weights = np.asarray(jax.vmap(TARGET)(u) - log_q)
    posterior = pf.Posterior.from_draws(TARGET, ROUGH, pf.diagnose(log_weights), NO_HISTORY, np.asarray(u), log_weights)
    chains = posterior.refine(jr.key(1), method="independence", num_samples=200, num_chains=3)
    assert chains.unconstrained.shape == (3, 200, 2) and 0.2 < chains.acceptance <= 1
    summary = chains.summary()
    assert summary["rate"].mean == pytest.approx(float(chains.draws["rate"].mean()))
    assert len(chains.plot().axes) == 4 and "R-hat" in chains._repr_html_()
    chains.report(tmp_path / "report.html")
    assert "<td>R-hat" in (tmp_path / "report.html").read_text()
    chains.save(tmp_path / "chains")
    for loaded in (pf.load(tmp_path / "chains"), pickle.loads(pickle.dumps(chains))):
        np.testing.assert_array_equal(loaded.draws["y"], chains.draws["y"])


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_chains >= 2"):
        run_chains(TARGET, ROUGH, jr.key(0), num_chains=1)
    with pytest.raises(ValueError, match="'hmc'"):
        run_chains(TARGET, ROUGH, jr.key(0), method="hmc")
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        run_chains(TARGET, pf.flows.linear(3, key=jr.key(0)), jr.key(0))
    cube = pf.Flow(dist.Uniform(0, 1).expand([2]).to_event(1), Triangular(2))
    with pytest.raises(ValueError, match="whole space"):
        run_chains(TARGET, cube, jr.key(0))
    assert jax.tree.leaves(run_chains(TARGET, cube, jr.key(0), method="independence", num_samples=10).unconstrained)
