"""When a flow needs further layers, and when more draws must confirm it."""

import jax.numpy as jnp
import jax.random as jr
import pytest

import pushforward as pf
from pushforward.flows.stack import standard_normal
from pushforward.posterior.stage_fit import MAX_COUPLING_DIM, StageFit
from pushforward.posterior.target import Whitened
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.run import Run
from pushforward.training.trainer import Trained


@pytest.fixture
def run():
    with Run("posterior", 1, Checkpoint(None, dict, jr.key(0))) as run:
        yield run


def normal(dim, run):
    """A fit of N(0, I), its whitened target and the flow of a scale; the KL divergence is that of two normals."""
    target = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(dim))

    def flow(scale):
        return pf.Flow(standard_normal(dim), pf.bijections.Triangular(dim, matrix=scale * jnp.eye(dim)))

    return StageFit(target, run, 1000), Whitened(target, pf.bijections.Triangular(dim)), flow


@pytest.mark.parametrize(
    ("dim", "scale", "needs"),
    [
        (4, 1.0, False),
        # 0.04 nats for each coordinate: in few dimensions layers follow, in more of them weights correct it.
        (4, 0.83, True),
        (32, 0.94, False),
        (32, 0.7, True),
    ],
)
def test_layers_follow_what_is_far_from_the_posterior(dim, scale, needs, run):
    fit, target, flow = normal(dim, run)
    before = fit.diagnostics(target, flow(scale), jr.key(1))
    assert fit.needs_layers(before, target, flow(scale), jr.key(2)) == needs


def test_more_draws_confirm_a_problem(run):
    fit, target, flow = normal(4, run)
    found = []

    def has_problem(diagnostics):
        found.append(diagnostics.elbo)
        return len(found) == 1

    before = fit.diagnostics(target, flow(0.9), jr.key(1))
    assert not fit.is_confirmed(has_problem, before, target, flow(0.9), jr.key(2))
    assert len(set(found)) == 2


def test_many_dimensions_get_no_layers(run):
    trained = Trained(None, 0.0, 0, "plateau")
    for dim, possible in ((MAX_COUPLING_DIM, True), (MAX_COUPLING_DIM + 1, False)):
        assert normal(dim, run)[0].can_have_layers(trained) == possible
    assert not normal(4, run)[0].can_have_layers(Trained(None, 0.0, 0, "steps"))
