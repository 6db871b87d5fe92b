"""Flows and learnable bases are distributions: they integrate to one, broadcast, and draw from their densities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import pushforward as pf
from products import few
from pushforward import bijections as bj
from pushforward.flow import check_flow
from pushforward.testing import randomize

SIZES = {
    "realnvp": {"num_layers": 3, "hidden": (8,)},
    "nsf": {"num_layers": 2, "hidden": (8,), "bins": 4},
    "maf": {"num_layers": 2, "hidden": (8,)},
    "iaf": {"num_layers": 2, "hidden": (8,)},
}
recipes = pytest.mark.parametrize("recipe", SIZES)


def small(recipe, dim, cond_dim=None):
    return getattr(pf.flows, recipe)(dim, key=jr.key(0), cond_dim=cond_dim, **SIZES[recipe])


def trained(recipe, dim, cond_dim=None, scale=0.5):
    """A flow with parameters about as far from the initial ones as after training; the base is unchanged."""
    flow = small(recipe, dim, cond_dim)
    return eqx.tree_at(lambda f: f.bijection, flow, randomize(flow.bijection, jr.key(1), scale))


def a_condition(flow, batch=()):
    return None if flow.cond_shape is None else jr.normal(jr.key(2), (*batch, *flow.cond_shape))


# Compiled once for all tests.
log_prob_of = eqx.filter_jit(pf.Flow.log_prob)
sample_and_log_prob = eqx.filter_jit(pf.Flow.sample_and_log_prob)
sample_log_prob_and_score = eqx.filter_jit(pf.Flow.sample_log_prob_and_score)


@eqx.filter_jit
def score_one_by_one(flow, x, condition=None):
    return jax.vmap(jax.grad(lambda x: flow.log_prob(x, condition)))(x)


# Densities.


def integral(log_prob, dim, size, reach):
    """The integral over R^dim, by the trapezoidal rule in t with x = sinh t, which reaches far into the tails."""
    t = jnp.linspace(-reach, reach, size)
    grid = jnp.stack(jnp.meshgrid(*[t] * dim, indexing="ij"), -1).reshape(-1, dim)
    log_values = log_prob(jnp.sinh(grid)) + jnp.log(jnp.cosh(grid)).sum(-1)
    return jnp.exp(log_values).sum() * (t[1] - t[0]) ** dim


@pytest.mark.parametrize(("dim", "cond_dim", "size"), [(1, 2, 2001), (2, None, 300), (2, 2, 300)])
@recipes
def test_integrates_to_one(recipe, dim, cond_dim, size):
    # Spline flows stay near [-5, 5], but in two dimensions their ridges are too thin for a grid.
    scale, reach = (0.1, 3.6) if recipe == "nsf" else (0.5, 7.0)
    flow = trained(recipe, dim, cond_dim, scale)
    condition = a_condition(flow)
    total = integral(lambda x: log_prob_of(flow, x, condition), dim, size, reach)
    np.testing.assert_allclose(total, 1.0, atol=1e-4 if recipe == "nsf" else 1e-8)


@recipes
def test_draws_agree_with_the_density(recipe):
    flow = trained(recipe, 4)
    x, log_prob, score = sample_log_prob_and_score(flow, jr.key(3), (20,))
    other_x, other_log_prob = sample_and_log_prob(flow, jr.key(3), (20,))
    np.testing.assert_allclose(x, other_x, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_prob, other_log_prob, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_prob, log_prob_of(flow, x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(score, score_one_by_one(flow, x), rtol=1e-7, atol=1e-7)


@recipes
def test_conditional_draws_agree_with_the_density(recipe):
    """The sample shape precedes the batch shape of conditions, and each draw belongs to its condition."""
    flow = trained(recipe, 3, 2)
    condition = a_condition(flow, (4,))
    x, log_prob, score = sample_log_prob_and_score(flow, jr.key(0), (5,), condition)
    assert x.shape == score.shape == (5, 4, 3) and log_prob.shape == (5, 4)
    for n in range(4):
        expected = log_prob_of(flow, x[:, n], condition[n])
        np.testing.assert_allclose(log_prob[:, n], expected, rtol=1e-8, atol=1e-8)
        expected = score_one_by_one(flow, x[:, n], condition[n])
        np.testing.assert_allclose(score[:, n], expected, rtol=1e-7, atol=1e-7)
    assert not np.allclose(log_prob[:, 0], log_prob_of(flow, x[:, 0], condition[1]))


def test_draws_follow_the_density():
    """E_q[h] from quadrature and from draws agrees within 5 standard errors."""
    flow = trained("nsf", 1)
    draws = jnp.tanh(flow.sample(jr.key(0), (20_000,))[:, 0])
    t = jnp.linspace(-9, 9, 20_001)
    weights = jnp.exp(log_prob_of(flow, jnp.sinh(t)[:, None])) * jnp.cosh(t) * (t[1] - t[0])
    error = draws.mean() - weights @ jnp.tanh(jnp.sinh(t))
    assert abs(error) < 5 * draws.std() / 20_000**0.5


# Shapes.


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_batch_shapes(batch):
    flow = trained("realnvp", 2)
    x, log_prob, score = sample_log_prob_and_score(flow, jr.key(0), batch)
    assert x.shape == score.shape == (*batch, 2)
    assert log_prob.shape == log_prob_of(flow, x).shape == batch
    np.testing.assert_allclose(flow.sample(jr.key(0), batch), x, rtol=1e-12, atol=1e-12)


BATCHES = [((), ()), ((5,), ()), ((), (5,)), ((5,), (5,)), ((4, 1), (5,)), ((2, 5), (2, 1)), ((1,), (3, 5))]


@pytest.mark.parametrize(("x_batch", "condition_batch"), BATCHES, ids=str)
def test_log_prob_broadcasts(x_batch, condition_batch):
    flow = trained("realnvp", 3, 2)
    x, condition = jr.normal(jr.key(0), (*x_batch, 3)), a_condition(flow, condition_batch)
    batch = np.broadcast_shapes(x_batch, condition_batch)
    log_prob = log_prob_of(flow, x, condition)
    assert log_prob.shape == batch
    x, condition = jnp.broadcast_to(x, (*batch, 3)), jnp.broadcast_to(condition, (*batch, 2))
    for index in np.ndindex(*batch):
        np.testing.assert_allclose(log_prob[index], log_prob_of(flow, x[index], condition[index]), rtol=1e-10)


@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
def test_events_of_any_rank(shape):
    base = dist.Normal(jnp.zeros(shape), 1.0).to_event(len(shape))
    flow = pf.Flow(base, bj.Identity(shape))
    x, log_prob = flow.sample_and_log_prob(jr.key(0), (5,))
    assert x.shape == (5, *shape) and log_prob.shape == (5,)
    np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(x).reshape(5, -1).sum(1))


def test_flow_of_a_scalar():
    flow = pf.Flow(dist.Normal(0.0, 1.0), bj.Affine(1.0, 3.0))
    x = jnp.array([[-1.0, 0.0, 4.0]])
    np.testing.assert_allclose(flow.log_prob(x), scipy.stats.norm.logpdf(x, 1.0, 3.0))


# Errors.

NORMAL = dist.Normal(jnp.zeros(3), 1.0)


def test_base_of_another_event_shape():
    with pytest.raises(ValueError, match=r"event shape \(2,\).*has event shape \(3,\)"):
        pf.Flow(NORMAL.to_event(1), bj.Identity((2,)))


def test_base_with_batch_shape():
    with pytest.raises(ValueError, match=r"batch shape \(3,\); .to_event\(\)"):
        pf.Flow(NORMAL, bj.Identity((3,)))


@pytest.mark.parametrize("shape", [(2,), (5, 4), ()], ids=str)
def test_points_of_wrong_shape(shape):
    with pytest.raises(
        ValueError, match=r"x must have shape \(\.\.\., 3\), but has shape " + f"\\({str(shape)[1:-1]}\\)"
    ):
        pf.Flow(NORMAL.to_event(1), bj.Identity((3,))).log_prob(jnp.zeros(shape))


CALLS = {
    "log_prob": lambda flow, condition: flow.log_prob(jnp.zeros(3), condition),
    "sample": lambda flow, condition: flow.sample(jr.key(0), (), condition),
    "sample_and_log_prob": lambda flow, condition: flow.sample_and_log_prob(jr.key(0), (), condition),
    "sample_log_prob_and_score": lambda flow, condition: flow.sample_log_prob_and_score(jr.key(0), (), condition),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_conditions_that_do_not_fit(call):
    conditional_flow, flow = small("realnvp", 3, 2), small("realnvp", 3)
    with pytest.raises(ValueError, match=r"needs a condition of shape \(\.\.\., 2\), but got none"):
        call(conditional_flow, None)
    with pytest.raises(ValueError, match=r"condition must have shape \(\.\.\., 2\), but has shape \(5,\)"):
        call(conditional_flow, jnp.zeros(5))
    with pytest.raises(ValueError, match="takes no condition"):
        call(flow, jnp.zeros(2))


# Learnable bases.

ZEROS, LOWER = jnp.zeros(3), jnp.array([[1.0, 0, 0], [0.5, 2.0, 0], [0, -0.3, 0.7]])
WEIGHTS, MEANS = jnp.array([0.2, 0.8]), jnp.array([[-2.0] * 3, [2.0] * 3])
LEARNABLE = {
    "normal": dist.Normal(ZEROS, 1.0).to_event(1),
    "expanded": dist.Normal(0.0, 1.0).expand([3]).to_event(1),
    "laplace": dist.Laplace(ZEROS, 2.0).to_event(1),
    "student_t": dist.StudentT(5.0, ZEROS, 1.0).to_event(1),
    "gamma": dist.Gamma(2.0, jnp.ones(3)).to_event(1),
    "log_normal": dist.LogNormal(ZEROS, 0.5).to_event(1),
    "transformed": dist.TransformedDistribution(
        dist.Normal(ZEROS, 1.0).to_event(1), dist.transforms.AffineTransform(1.0, 2.0)
    ),
    "multivariate_normal": dist.MultivariateNormal(ZEROS, scale_tril=LOWER),
    "multivariate_normal_by_covariance": dist.MultivariateNormal(ZEROS, covariance_matrix=LOWER @ LOWER.T),
    "multivariate_normal_by_precision": dist.MultivariateNormal(ZEROS, precision_matrix=LOWER @ LOWER.T),
    "multivariate_student_t": dist.MultivariateStudentT(5.0, ZEROS, LOWER),
    "mixture": dist.MixtureSameFamily(dist.Categorical(probs=WEIGHTS), dist.Normal(MEANS, 1.0).to_event(1)),
    "mixture_by_logits": dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(2)),
        dist.MultivariateNormal(MEANS, scale_tril=LOWER),
    ),
}
learnable = pytest.mark.parametrize("distribution", LEARNABLE.values(), ids=LEARNABLE)
KINDS = few(LEARNABLE, "student_t", "transformed", "multivariate_normal_by_precision", "mixture_by_logits")
kinds = pytest.mark.parametrize("kind", KINDS)


def moved(base, scale=1.0, seed=0):
    """A learnable distribution with moved parameters and the same template."""
    return eqx.tree_at(lambda b: b.raw, base, randomize(base.raw, jr.key(seed), scale))


def parameters_of(d):
    """All declared parameters of the distribution and of its parts, with their constraints."""
    for name, constraint in d.arg_constraints.items():
        if d.__dict__.get(name) is not None:
            yield name, d.__dict__[name], constraint
    for part in ("base_dist", "mixing_distribution", "component_distribution"):
        if part in d.__dict__ or hasattr(type(d), part):
            yield from parameters_of(getattr(d, part))


@kinds
def test_learnable_begins_as_given(kind):
    distribution = LEARNABLE[kind]
    base = pf.Learnable(distribution).distribution
    assert (base.event_shape, base.batch_shape) == (distribution.event_shape, distribution.batch_shape)
    x = distribution.sample(jr.key(0), (20,))
    np.testing.assert_allclose(base.log_prob(x), distribution.log_prob(x), rtol=1e-10)
    np.testing.assert_allclose(base.sample(jr.key(0), (20,)), x, rtol=1e-10, atol=1e-12)


@kinds
def test_learnable_stays_in_its_constraints(kind):
    distribution = LEARNABLE[kind]
    for seed in range(3):
        base = moved(pf.Learnable(distribution), 1.0, seed).distribution
        for name, value, constraint in parameters_of(base):
            assert jnp.all(constraint(value)), name
        assert jnp.isfinite(base.log_prob(base.sample(jr.key(seed), (10,)))).all()


@learnable
def test_gradients_reach_all_of_a_learnable(distribution):
    base = moved(pf.Learnable(distribution), 0.3)
    x = base.distribution.sample(jr.key(0), (10,))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda base: base.distribution.log_prob(x).sum()))(base)
    for name, value in gradient.raw.items():
        assert jnp.isfinite(value).all() and jnp.any(value != 0), name


@kinds
def test_draws_and_density_use_the_same_parameters(kind):
    distribution = LEARNABLE[kind]
    """The mean of a bounded function under the draws equals its importance-weighted mean under the first parameters."""
    base = moved(pf.Learnable(distribution), 0.2, seed=4).distribution
    draws, first = base.sample(jr.key(0), (20_000,)), distribution.sample(jr.key(1), (20_000,))

    def bounded(x):
        return jnp.cos(x.sum(-1))

    direct = bounded(draws)
    weighted = jnp.exp(base.log_prob(first) - distribution.log_prob(first)) * bounded(first)
    error = jnp.hypot(direct.std(), weighted.std()) / 20_000**0.5
    assert abs(direct.mean() - weighted.mean()) < 5 * error


@pytest.mark.parametrize("df", [1.5, 30.0])
def test_draws_of_a_learnable_student_t_follow_its_df(df):
    """StudentT stores df twice, once in a chi-squared: the tails of its draws must match its density."""
    base = pf.Learnable(dist.StudentT(5.0, 0.0, 1.0))
    raw = dict(base.raw, df=dist.biject_to(dist.constraints.positive).inv(jnp.array(df)))
    base = eqx.tree_at(lambda b: b.raw, base, raw)
    flow = pf.Flow(base, bj.Identity())
    x = flow.sample(jr.key(0), (50_000,))
    np.testing.assert_allclose(flow.log_prob(x[:5]), scipy.stats.t.logpdf(x[:5], df), rtol=1e-9)
    tail = 2 * scipy.stats.t.sf(3.0, df)
    assert abs(jnp.mean(jnp.abs(x) > 3.0) - tail) < 5 * (tail / 50_000) ** 0.5


def test_draws_of_a_learnable_follow_its_parameters_with_a_gradient():
    """d/dloc E[x] = 1, because draws are differentiable."""
    flow = pf.Flow(pf.Learnable(dist.Normal(ZEROS, 1.0).to_event(1)), bj.Identity((3,)))
    gradient = eqx.filter_grad(lambda flow: flow.sample(jr.key(0), (10,)).mean(0).sum())(flow)
    np.testing.assert_allclose(gradient.base.raw["loc"], np.ones(3))


def test_score_of_a_flow_with_a_learnable_base():
    flow = pf.Flow(moved(pf.Learnable(LEARNABLE["student_t"])), randomize(bj.Triangular(3), jr.key(0), 1.0))
    x, _, score = flow.sample_log_prob_and_score(jr.key(1), (10,))
    np.testing.assert_allclose(score, jax.vmap(jax.grad(flow.log_prob))(x), rtol=1e-8, atol=1e-10)


def test_a_distribution_without_parameters_cannot_be_learned():
    with pytest.raises(ValueError, match="ImproperUniform"):
        pf.Learnable(dist.ImproperUniform(dist.constraints.real, (), (3,)))


def test_empty_batches():
    flow = pf.flows.realnvp(3, key=jr.key(0), hidden=(4,), num_layers=2)
    assert flow.log_prob(jnp.zeros((0, 3))).shape == (0,)
    assert flow.sample(jr.key(0), (0, 2)).shape == (0, 2, 3)


def test_sample_shape_is_a_tuple():
    with pytest.raises(TypeError, match="sample_shape must be a sequence, but is 5"):
        pf.flows.realnvp(3, key=jr.key(0), hidden=(4,), num_layers=2).sample(jr.key(0), 5)


def test_learnable_names_what_cannot_be_learned():
    with pytest.raises(ValueError, match="of Uniform cannot be learned"):
        pf.Learnable(dist.Uniform(0.0, 1.0))


def test_nan_is_neither_inside_nor_outside():
    flow = pf.Flow(dist.Normal(jnp.zeros(2), 1.0).to_event(1), pf.bijections.Elementwise(pf.bijections.Exp(), 2))
    x = jnp.array([[jnp.nan, 1.0], [-1.0, 1.0], [1.0, 1.0]])
    log_prob = flow.log_prob(x)
    assert jnp.isnan(log_prob[0]) and log_prob[1] == -jnp.inf and jnp.isfinite(log_prob[2])


def test_nan_is_not_minus_infinity():
    """NumPyro's normal distribution returns -inf for NaN."""
    x = jnp.array([[jnp.nan, 0.0], [0.0, 0.0]])
    for flow in (pf.flows.linear(2, key=jr.key(0)), pf.flows.radial(2, num_layers=1, key=jr.key(0))):
        log_prob = flow.log_prob(x)
        assert jnp.isnan(log_prob[0]) and jnp.isfinite(log_prob[1])


def test_points_outside_spoil_no_gradient():
    flow = pf.Flow(pf.flows.linear(2, key=jr.key(0)).base, bj.Elementwise(bj.Exp(), 2))
    x = jnp.array([[1.0, 2.0], [-1.0, 2.0]])
    gradient = jax.grad(lambda x: flow.log_prob(x)[0])(x)
    assert flow.log_prob(x)[1] == -jnp.inf and jnp.isfinite(gradient).all()


def test_a_discrete_base_is_refused():
    with pytest.raises(ValueError, match="must be continuous, but Poisson"):
        pf.Flow(dist.Poisson(1.0), bj.Affine())


@pytest.mark.parametrize(("cond_dim", "recipe"), [(None, r"maf\(2, key=key\)"), (3, r"maf\(2, cond_dim=3, key=key\)")])
def test_what_is_not_a_flow_of_these_shapes(cond_dim, recipe):
    cond_shape = None if cond_dim is None else (cond_dim,)
    check_flow(pf.flows.linear(2, cond_dim=cond_dim, key=jr.key(0)), (2,), cond_shape, "the data")
    for other, name in ((pf.flows.nsf, "nsf"), ("nsf", "nsf"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"shape \(2,\).*like the data.*{recipe}.*'{name}'"):
            check_flow(other, (2,), cond_shape, "the data")
    with pytest.raises(ValueError, match=r"shape \(2,\).*like the data.*has shape \(3,\)"):
        check_flow(pf.flows.linear(3, cond_dim=cond_dim, key=jr.key(0)), (2,), cond_shape, "the data")
    with pytest.raises(ValueError, match=r"has shape \(2,\) and cond_shape \(7,\)"):
        check_flow(pf.flows.linear(2, cond_dim=7, key=jr.key(0)), (2,), cond_shape, "the data")


def test_saved_flow(tmp_path):
    flow = pf.flows.linear(2, key=jr.key(0))
    flow.save(tmp_path / "flow")
    assert eqx.tree_equal(pf.load(tmp_path / "flow"), flow)
    unnamed = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, activation=lambda x: x)
    with pytest.raises(ValueError, match="lambda"):
        unnamed.save(tmp_path / "flow")
    assert eqx.tree_equal(pf.load(tmp_path / "flow"), flow)
