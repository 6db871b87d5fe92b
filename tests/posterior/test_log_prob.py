import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.posterior.log_prob import log_prob_of_draws

MATRIX = [[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]]
FACTOR = np.linalg.cholesky(np.array(MATRIX)).tolist()


def shifted(matrix, row, column, by):
    changed = np.array(matrix)
    changed[row, column] += by
    return changed.tolist()


def log_prob(target, draws):
    flow = pf.Flow(dist.Normal(0, 50).expand((target.dim,)).to_event(1), pf.bijections.Identity((target.dim,)))
    return np.asarray(log_prob_of_draws(target, flow, draws))


@pytest.mark.parametrize(
    ("support", "inside", "outside"),
    [
        (constraints.real, [-1e30, 0.0, 3], [np.nan, np.inf, -np.inf]),
        (constraints.positive, [1e-9, 3e4], [-1.0, 0.0, -1e-9, np.inf, np.nan]),
        (constraints.softplus_positive, [1e-3, 50.0], [-1.0, 0.0, np.nan]),
        (constraints.interval(2.0, 3.0), [2.001, 2.5], [1.9, 2.0, 3.0, 3.1, 1e9, -np.inf, np.nan]),
        (constraints.less_than(-1.0), [-1.5, -1e6], [-1.0, -0.5, 1.0]),
        (constraints.simplex, [[0.2, 0.3, 0.5], [1e-6, 0.4, 0.6 - 1e-6], np.float32([0.1, 0.7, 0.2])],
         [[0.2, 0.3, 0.6], [-0.1, 0.6, 0.5], [0.0, 0.5, 0.5], [0.2, np.nan, 0.8]]),
        (constraints.ordered_vector, [[-1.0, 0.0, 5.0]], [[0.0, -1.0, 5.0], [1.0, 1.0, 2.0], [0.0, 1.0, np.nan]]),
        (constraints.positive_ordered_vector, [[0.1, 2.0]], [[-0.1, 2.0], [0.0, 1.0], [2.0, 1.0]]),
        (constraints.zero_sum(1), [[1.0, -3.0, 2.0]], [[1.0, -3.0, 2.1]]),
        (constraints.corr_matrix, [MATRIX],
         [shifted(MATRIX, 0, 1, 1e-3), shifted(MATRIX, 1, 1, 0.1), -np.array(MATRIX), np.ones((3, 3))]),
        (constraints.corr_cholesky, [FACTOR], [shifted(FACTOR, 0, 2, 0.1), shifted(FACTOR, 2, 2, 0.1)]),
        (constraints.lower_cholesky, [FACTOR], [shifted(FACTOR, 0, 2, 0.1), shifted(FACTOR, 1, 1, -2.0)]),
        (constraints.positive_definite, [MATRIX, 5e6 * np.array(MATRIX)],
         [shifted(MATRIX, 0, 1, 1e-3), -np.array(MATRIX), np.zeros((3, 3))]),
    ],
)  # fmt: skip
def test_density_is_zero_outside_of_the_support(support, inside, outside):
    example = {"a": jnp.asarray(inside[0], float)}
    target = pf.Target(lambda draw: jnp.sum(draw["a"]) * 0, example, support)
    # A draw as numbers of single precision is a draw, too.
    for value in inside:
        assert np.isfinite(log_prob(target, {"a": jnp.asarray(value)[None]})[0]) or abs(np.max(value)) > 1e9, value
    found = log_prob(target, {"a": np.array([np.asarray(value, float) for value in [*outside, inside[0]]])})
    assert np.all(found[:-1] == -np.inf), found
    assert np.isfinite(found[-1])


def test_the_last_entry_of_a_simplex_may_round_to_zero():
    """NumPyro's inverse then gives a large number instead of infinity, where flows have no mass."""
    target = pf.Target(lambda x: jnp.sum(x) * 0, jnp.full(3, 1 / 3), constraints.simplex)
    flow = pf.Flow(dist.Normal(jnp.zeros(2), 1.0).to_event(1), pf.bijections.Identity((2,)))
    assert log_prob_of_draws(target, flow, np.array([[0.5, 0.5, 0.0]]))[0] < -100


def test_sites_that_are_not_latent_do_not_matter():
    def model():
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        numpyro.sample("x", dist.Uniform(0.0, scale))  # a support that depends on another site
        numpyro.deterministic("twice", 2 * scale)

    target = pf.Target.from_numpyro(model)
    draws = {"scale": jnp.array([1.0, 1.0, -1.0]), "x": jnp.array([0.5, 1.5, 0.5])}
    for more in ({}, {"twice": jnp.zeros(3)}, {"another": jnp.zeros(7)}):
        assert np.isfinite(log_prob(target, draws | more)).tolist() == [True, False, False]


def test_observed_entries_and_minibatches():
    y, mask = jnp.array([1.0, 2.0, 3.0]), jnp.array([True, False, True])

    def partly():
        numpyro.sample("y", dist.LogNormal(0.0, 1.0).expand([3]), obs=y, obs_mask=mask)

    # The entries that are observed are not part of the fit.
    draws = {"y_unobserved": jnp.array([[9.0, 2.0, 9.0], [1.0, -2.0, 1.0]])}
    for target in (pf.Target.from_numpyro(partly), pf.Target.from_numpyro(partly).detached()):
        assert np.isfinite(log_prob(target, draws)).tolist() == [True, False]

    def rows():
        mean = numpyro.sample("scale", dist.HalfNormal(1.0))
        with numpyro.plate("rows", 3, subsample_size=2) as index:
            numpyro.sample("obs", dist.Normal(mean, 1.0), obs=y[index])

    assert np.isfinite(log_prob(pf.Target.from_numpyro(rows), {"scale": jnp.array([1.0, -1.0])})).tolist() == [
        True,
        False,
    ]


def test_draws_must_have_the_shapes_of_the_target():
    target = pf.Target(lambda draw: draw["a"] - jnp.sum(draw["b"]), {"a": jnp.ones(()), "b": jnp.ones(2)})
    good = {"a": np.ones(4), "b": np.ones((4, 2))}
    assert log_prob(target, good).shape == (4,)
    for bad in ({"a": 1.0}, {"a": np.ones(3)}, {"b": np.ones(2)}, {"b": np.ones((4, 3))}, {"b": np.ones((4, 2, 1))}):
        with pytest.raises(ValueError, match="a of shape .*leading axis"):
            log_prob(target, good | bad)
    with pytest.raises(ValueError, match="but holds b of shape"):
        log_prob(target, {"b": good["b"]})
    with pytest.raises(ValueError, match=r"but holds an array of shape \(4,\)"):
        log_prob(target, np.ones(4))
