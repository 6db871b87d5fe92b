"""Exact transports, and sources without a Rosenblatt map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

import pushforward as pf
from products import few
from pushforward import bijections as bj
from pushforward.testing import check_bijection
from rosenblatt_cases import forward, mixture, normal


@pytest.mark.parametrize("dim", few([1, 10], 1))
def test_normal_draws_become_those_of_a_mixture(dim):
    model, size = mixture(dim, count=5), 20_000
    flow = pf.Flow(normal(dim), pf.transport(normal(dim), model))
    x, log_prob = jax.jit(lambda key: flow.sample_and_log_prob(key, (size,)))(jr.key(1))
    np.testing.assert_allclose(log_prob, model.log_prob(x), rtol=1e-9, atol=1e-9)
    exact = model.sample(jr.key(2), (size,))
    p_values = [scipy.stats.ks_2samp(a, b).pvalue for a, b in zip(np.asarray(x).T, np.asarray(exact).T, strict=True)]
    assert min(p_values) > 1e-3 / dim
    # The energy distance is that between exact draws.
    parts = np.asarray(model.sample(jr.key(3), (6, 1000)))
    null = [energy_distance(parts[i], parts[j]) for i in range(6) for j in range(i)]
    assert energy_distance(np.asarray(x[:1000]), np.asarray(exact[:1000])) < np.mean(null) + 4 * np.std(null)


def energy_distance(x, y):
    distance = scipy.spatial.distance.cdist
    return 2 * distance(x, y).mean() - distance(x, x).mean() - distance(y, y).mean()


@pytest.mark.conformance
def test_the_divergence_of_a_pushforward_vanishes():
    """KL(q || p) by quadrature; q uses the automatic Jacobian, not the log-determinant."""
    target = mixture(2, count=5, spread=1.5).log_prob
    to_uniform = pf.rosenblatt(target, box=([-11.0, -11.0], [11.0, 18.0]))
    carry = pf.transport(normal(2), to_uniform)
    line = jnp.linspace(-6.5, 6.5, 50)
    z = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)

    def one(z):
        jacobian = jax.jacfwd(carry.forward)(z)
        log_base = normal(2).log_prob(z)
        log_q = log_base - jnp.sum(jnp.log(jnp.diag(jacobian)))
        return jnp.exp(log_base) * (log_q - target(carry.forward(z)) + to_uniform.to_logits.log_normalizer)

    divergence = jax.jit(lambda z: jax.lax.map(one, z, batch_size=100).sum())(z) * (line[1] - line[0]) ** 2
    assert abs(divergence) < 1e-6


def test_tails_beyond_the_cube():
    """Where all CDFs round to 1, the transport is still precise; it is the identity if base and target are equal."""
    far = jnp.array([30.0, -20.0])
    wide = dist.Normal(jnp.zeros(2), 2.0).to_event(1)
    np.testing.assert_allclose(forward(pf.transport(normal(2), wide), far[None]), 2 * far[None], rtol=1e-12)
    model = mixture(2)
    np.testing.assert_allclose(forward(pf.transport(model, model), far[None]), far[None], rtol=1e-9)


@pytest.mark.conformance
def test_a_transport_is_a_bijection_like_any_other():
    carry = pf.transport(normal(2), mixture(2))
    flow = pf.Flow(normal(2), bj.Chain([carry, bj.Triangular(2, matrix=jnp.array([[2.0, 0.0], [1.0, 0.5]]))]))
    x = flow.sample(jr.key(0), (5,))
    log_prob = eqx.filter_jit(flow.log_prob)
    gradient = eqx.filter_jit(jax.vmap(jax.grad(flow.log_prob)))(x)
    moved = (log_prob(x + 1e-6) - log_prob(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(gradient.sum(1), moved, rtol=1e-5)


@pytest.mark.conformance
def test_the_map_of_a_triangular_flow():
    """F maps the flow's draws to the cube; the transport from the base to the flow is the flow's bijection."""
    layer = bj.MaskedAutoregressive(bj.DeepSigmoidal(4), 3, hidden=(8,), key=jr.key(0))
    flow = pf.Flow(normal(3), pf.testing.randomize(layer, jr.key(1), 0.5))
    x, log_prob = flow.sample_and_log_prob(jr.key(2), (10,))
    to_uniform = pf.rosenblatt(flow)
    u, log_det = jax.jit(jax.vmap(to_uniform.forward_and_log_det))(x)
    np.testing.assert_allclose(log_det, log_prob, rtol=1e-9)
    z = flow._sample_base(jr.key(2), (10,), None)
    np.testing.assert_allclose(u, scipy.special.ndtr(z), rtol=1e-9)
    np.testing.assert_allclose(forward(pf.transport(normal(3), flow), z), x, rtol=1e-8)


@pytest.mark.conformance
def test_a_learned_flow_comes_near_to_the_exact_map():
    """The increasing triangular map is unique, so a triangular flow that learns the target learns the transport."""
    model = mixture(2, count=2, seed=1, spread=1.0)
    exact = pf.transport(normal(2), model)
    z = jr.normal(jr.key(3), (2000, 2))
    expected = forward(exact, z)
    layer = bj.MaskedAutoregressive(bj.DeepSigmoidal(8), 2, hidden=(32,), key=jr.key(0))
    flow = pf.Flow(normal(2), bj.Chain([layer, bj.Triangular(2)]))
    flow, _ = pf.train(flow, pf.ReverseKL(model.log_prob, num_samples=128), key=jr.key(1), steps=1500)
    error = jnp.sqrt(jnp.mean((forward(flow.bijection, z) - expected) ** 2))
    assert error < 0.1 * jnp.std(expected)
    # It started far from the exact map.
    assert error < 0.3 * jnp.sqrt(jnp.mean((z - expected) ** 2))


def test_kinds_of_gaussians():
    """All ways to write the same Gaussian have the same map."""
    loc, scale = jnp.array([1.0, -2.0]), jnp.array([0.5, 2.0])
    x = jnp.array([0.3, 1.0])
    expected = scipy.special.ndtr((x - loc) / scale)
    ways = (
        dist.Normal(loc, scale).to_event(1),
        dist.MultivariateNormal(loc, jnp.diag(scale**2)),
        dist.LowRankMultivariateNormal(loc, jnp.zeros((2, 1)), scale**2),
        dist.MixtureSameFamily(
            dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.stack([loc, loc]), scale).to_event(1)
        ),
        dist.MixtureGeneral(dist.Categorical(jnp.ones(2) / 2), [dist.Normal(loc, scale).to_event(1)] * 2),
        pf.Learnable(dist.Normal(loc, scale).to_event(1)),
        [lambda before, i=i: dist.Normal(loc[i], scale[i]) for i in range(2)],
    )
    for way in ways:
        np.testing.assert_allclose(forward(pf.rosenblatt(way), x[None])[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (dist.Normal(0.0, 1.0), "to_event"),
        (dist.Dirichlet(jnp.ones(3)), "no conditional CDFs"),
        (lambda x: -x @ x, "needs a box"),
        (dist.TruncatedNormal(jnp.zeros(2), 1.0, low=-1.0).to_event(1), "cannot be separated"),
        (3, "but is int"),
        ([], "one for each coordinate"),
        ([lambda x: 3.0], "conditional 0 must return a univariate NumPyro distribution"),
        ([lambda x: dist.Poisson(3.0)], "support .* must be an interval"),
        ([lambda x: dist.VonMises(0.0, 1.0)], "has no CDF|interval"),
    ],
)
def test_what_has_no_map(source, match):
    with pytest.raises(ValueError, match=match):
        pf.rosenblatt(source)


@pytest.mark.parametrize(
    ("bijection", "match"),
    [
        (lambda: pf.flows.realnvp(2, key=jr.key(0)).bijection, "coordinate 0 of x depends on coordinate 1 of u"),
        (lambda: bj.Permutation([1, 0]), "not triangular"),
        (lambda: bj.QR(2, key=jr.key(0)), "not triangular"),
    ],
)
def test_flows_that_are_not_triangular(bijection, match):
    with pytest.raises(ValueError, match=match):
        pf.rosenblatt(pf.Flow(normal(2), bijection()))


def test_base_and_target_of_different_shapes():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        pf.transport(normal(2), normal(3))


def test_options_without_use():
    with pytest.raises(ValueError, match="need a log-density, but no source is"):
        pf.rosenblatt(normal(2), box=([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(ValueError, match="outside of jit"):
        jax.grad(lambda m: pf.transport(normal(2), dist.Normal(m, 1.0).to_event(1)).forward(m).sum())(jnp.zeros(2))


def test_exact_maps_are_not_trained():
    assert bj.num_parameters(pf.transport(normal(2), mixture(2))) == 0
    assert bj.num_parameters(bj.Frozen(bj.Triangular(3))) == 0
    check_bijection(
        bj.Frozen(bj.Triangular(3, matrix=jnp.diag(jnp.array([1.0, 2.0, 3.0])))), key=jr.key(0), scales=(0.0,)
    )


def test_fields_of_version_0_1_0():
    to_uniform = pf.rosenblatt(dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    assert type(to_uniform).upgraded_fields({"to_line": to_uniform.to_logits}) == vars(to_uniform)
