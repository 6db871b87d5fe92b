"""The Rosenblatt map: conformance, the claims of the theorem, exact transports, and sources without such a map."""

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
from pushforward.rosenblatt.conditionals import log_tails
from pushforward.testing import check_bijection


def mixture(dim, count=3, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    factors = np.tril(0.5 * rng.normal(size=(count, dim, dim)), -1)
    factors = factors + np.eye(dim) * rng.uniform(0.4, 1.0, (count, dim))[:, :, None]
    means = spread * rng.normal(size=(count, dim))
    weights = jnp.asarray(rng.dirichlet(np.full(count, 3.0)))
    components = dist.MultivariateNormal(jnp.asarray(means), scale_tril=jnp.asarray(factors))
    return dist.MixtureSameFamily(dist.Categorical(weights), components)


def normal(dim):
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def banana(x):
    return -0.5 * (x[0] / 1.5) ** 2 - 0.5 * ((x[1] - 0.5 * x[0] ** 2) / 0.6) ** 2


def chained():
    """Supports of all kinds, and heavy tails."""
    return (
        dist.Uniform(-1.0, 2.0),
        lambda x: dist.LogNormal(0.3 * x[0], jnp.exp(0.2 * x[0])),
        lambda x: dist.StudentT(3.0, x[0], 2.0),
    )


MAPS = {
    "mixture": lambda: pf.rosenblatt(mixture(3)).to_line.bijection,
    "conditionals": lambda: pf.rosenblatt(chained()).to_line,
    "quadrature": lambda: pf.rosenblatt(banana, box=([-6.0, -4.0], [6.0, 9.0])).to_line,
}


@pytest.mark.parametrize("name", few(MAPS))
def test_conformance(name):
    bijection = MAPS[name]()
    scales = (0.0, 1.0, 3.0) if bj.num_parameters(bijection) else (0.0,)
    # Quadrature is accurate to its tolerance.
    tolerance = 1e-8 if name == "quadrature" else None
    check_bijection(bijection, key=jr.key(0), scales=scales, num_points=8, tolerance=tolerance)


@pytest.mark.conformance
@pytest.mark.parametrize("name", MAPS)
def test_round_trips_in_float32(name):
    with jax.enable_x64(False):
        straighten = MAPS[name]()
        carry = pf.transport(normal(straighten.dim), straighten)
        # Farther out, numbers near an end of a support are too coarse for a round trip.
        z = jnp.clip(2 * jr.normal(jr.key(0), (100, *carry.shape)), -3, 3)
        x, log_det, back, log_det_back = round_trip(carry, z)
        assert x.dtype == log_det.dtype == jnp.float32
        np.testing.assert_allclose(back, z, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-3, atol=1e-3)


@eqx.filter_jit
def round_trip(bijection, z):
    x, log_det = bijection.batched.forward_and_log_det(z)
    back, log_det_back = bijection.batched.inverse_and_log_det(x)
    return x, log_det, back, log_det_back


# The claims of the theorem about F.


def maps_and_log_probs():
    model = mixture(4)
    box = ([-6.0, -4.0], [6.0, 9.0])
    product = dist.Independent(dist.Gamma(jnp.array([2.0, 3.0]), 1.5), 1)
    return {
        "mixture": (pf.rosenblatt(model), model.log_prob, model.sample),
        "product": (pf.rosenblatt(product), product.log_prob, product.sample),
        "quadrature": (pf.rosenblatt(banana, box=box), None, None),
    }


@eqx.filter_jit
def log_det_and_jacobian(bijection, x):
    def forward(x):
        y, log_det = bijection.forward_and_log_det(x)
        return y, log_det

    jacobians, log_dets = jax.vmap(jax.jacfwd(forward, has_aux=True))(x)
    return log_dets, jacobians


forward = eqx.filter_jit(lambda bijection, x: bijection.batched.forward(x))


def test_the_jacobian_is_triangular_and_its_determinant_the_density():
    for name, (straighten, log_prob, draw) in maps_and_log_probs().items():
        if log_prob is None:
            x = jnp.stack([jnp.linspace(-5, 5, 21), jnp.linspace(-3, 8, 21)], 1)
            log_z = straighten.to_line.log_normalizer
            expected = jax.vmap(banana)(x) - log_z
        else:
            x = draw(jr.key(1), (40,))
            expected = log_prob(x)
        log_det, jacobians = map(np.asarray, log_det_and_jacobian(straighten, x))
        np.testing.assert_allclose(log_det, expected, rtol=1e-8, atol=1e-8, err_msg=name)
        assert not np.triu(jacobians, 1).any(), name
        fine = np.abs(log_det) < 30
        np.testing.assert_allclose(np.linalg.slogdet(jacobians[fine])[1], log_det[fine], atol=1e-8, err_msg=name)


@pytest.mark.parametrize("dim", [2, 10])
def test_draws_become_uniform_and_independent(dim):
    model, size = mixture(dim, count=5), 20_000
    u = np.asarray(forward(pf.rosenblatt(model), model.sample(jr.key(1), (size,))))
    assert ((u > 0) & (u < 1)).all()
    assert min(scipy.stats.kstest(column, "uniform").pvalue for column in u.T) > 1e-3 / dim
    # Neither the coordinates nor their distances from the middle are correlated.
    for values in (u, np.abs(u - 0.5)):
        correlation = np.corrcoef(values.T) - np.eye(dim)
        assert np.abs(correlation).max() < 4.5 / size**0.5


# Transports.


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
    straighten = pf.rosenblatt(target, box=([-11.0, -11.0], [11.0, 18.0]))
    carry = pf.transport(normal(2), straighten)
    line = jnp.linspace(-6.5, 6.5, 50)
    z = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)

    def one(z):
        jacobian = jax.jacfwd(carry.forward)(z)
        log_base = normal(2).log_prob(z)
        log_q = log_base - jnp.sum(jnp.log(jnp.diag(jacobian)))
        return jnp.exp(log_base) * (log_q - target(carry.forward(z)) + straighten.to_line.log_normalizer)

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
    straighten = pf.rosenblatt(flow)
    u, log_det = jax.jit(jax.vmap(straighten.forward_and_log_det))(x)
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


def test_supports_that_move():
    """A uniform law with an end that depends on another coordinate: that end of the domain is infinite."""
    source = [lambda x: dist.Exponential(1.0), lambda x: dist.Uniform(0.0, x[0])]
    flow = pf.Flow(normal(2), pf.transport(normal(2), source))
    x, log_prob = jax.jit(lambda key: flow.sample_and_log_prob(key, (100,)))(jr.key(0))
    assert jnp.all((x[:, 1] > 0) & (x[:, 1] < x[:, 0]))
    np.testing.assert_allclose(log_prob, -x[:, 0] - jnp.log(x[:, 0]), rtol=1e-8)


# Quadrature.


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_normalizers(dim):
    """A Gaussian truncated to a box, somewhat narrow and off center."""
    matrix = np.tril(np.full((dim, dim), 0.3)) + 0.4 * np.eye(dim)
    straighten = pf.rosenblatt(
        lambda x: 5.0 - 0.5 * jnp.sum(jnp.linalg.solve(matrix, x - 0.7) ** 2), box=([-6.0] * dim, [9.0] * dim)
    ).to_line
    expected = 5.0 + np.log(np.linalg.det(matrix)) + 0.5 * dim * np.log(2 * np.pi)
    assert straighten.log_normalizer == pytest.approx(expected, abs=1e-8)
    assert straighten.error < 1e-10
    assert straighten.edge_density < 1e-10


@pytest.mark.parametrize("offset", [-5000.0, 5000.0])
@pytest.mark.parametrize("dim", [1, 3])
def test_offsets(dim, offset):
    """Log-densities of models may be large numbers."""
    ends = 9 * np.ones(dim)
    straighten = pf.rosenblatt(lambda x: offset - 0.5 * x @ x, box=(-ends, ends)).to_line
    assert straighten.log_normalizer == pytest.approx(offset + 0.5 * dim * np.log(2 * np.pi), abs=1e-8)


def test_boxes_that_cut():
    straighten = pf.rosenblatt(lambda x: -x[0], box=([0.0], [2.0])).to_line
    assert straighten.edge_density == pytest.approx(2 / (1 - np.exp(-2.0)), rel=0.02)


@pytest.mark.conformance
def test_three_dimensions():
    """Against the closed form, with a batch larger than one chunk."""
    matrix = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.4, 1.2]])
    model, inverse = dist.MultivariateNormal(jnp.ones(3), scale_tril=matrix), jnp.linalg.inv(matrix)
    ends = 9 * np.ones(3)
    by_quadrature = pf.rosenblatt(lambda x: -0.5 * jnp.sum((inverse @ (x - 1)) ** 2), box=(-ends, ends), tolerance=1e-6)
    x = model.sample(jr.key(0), (300,))
    u, log_det, back, _ = round_trip(by_quadrature, x)
    np.testing.assert_allclose(u, forward(pf.rosenblatt(model), x), atol=1e-5)
    np.testing.assert_allclose(log_det, model.log_prob(x), atol=1e-5)
    np.testing.assert_allclose(back, x, atol=1e-4)


# Rezende and Mohamed's energies (2015, table 1), and log Z of each on [-4, 4]^2 by the trapezoid rule.


def wave(x):
    return jnp.sin(jnp.pi * x[0] / 2)


def two_waves(x, width, shift):
    first = -0.5 * ((x[1] - wave(x)) / width) ** 2
    return jnp.logaddexp(first, -0.5 * ((x[1] - wave(x) + shift) / 0.35) ** 2)


def ring(x):
    ends = jnp.logaddexp(-0.5 * ((x[0] - 2) / 0.6) ** 2, -0.5 * ((x[0] + 2) / 0.6) ** 2)
    return ends - 0.5 * ((jnp.linalg.norm(x) - 2) / 0.4) ** 2


@pytest.mark.parametrize(
    ("energy", "log_z"),
    [
        (ring, 1.877502),
        (lambda x: -0.5 * ((x[1] - wave(x)) / 0.4) ** 2, 2.082089),
        (lambda x: two_waves(x, 0.35, 3 * jnp.exp(-0.5 * ((x[0] - 1) / 0.6) ** 2)), 2.641705),
        (lambda x: two_waves(x, 0.4, 3 * jax.nn.sigmoid((x[0] - 1) / 0.3)), 2.684568),
    ],
    ids=["U1", "U2", "U3", "U4"],
)
def test_energies(energy, log_z):
    straighten = pf.rosenblatt(energy, box=([-4.0, -4.0], [4.0, 4.0])).to_line
    assert straighten.log_normalizer == pytest.approx(log_z, abs=1e-6)


def test_peaks_between_the_nodes_are_found():
    log_density = lambda x: jnp.logaddexp(-0.5 * x[0] ** 2, -0.5 * ((x[0] - 3.21) / 1e-3) ** 2 + jnp.log(1e3))  # noqa: E731
    straighten = pf.rosenblatt(log_density, box=([-8.0], [8.0])).to_line
    assert straighten.log_normalizer == pytest.approx(np.log(2 * np.sqrt(2 * np.pi)), abs=1e-8)


def test_narrow_peaks_and_kinks():
    peak = pf.rosenblatt(lambda x: -0.5 * ((x[0] - 0.123) / 1e-4) ** 2, box=([-5.0], [5.0])).to_line
    assert peak.log_normalizer == pytest.approx(np.log(1e-4 * np.sqrt(2 * np.pi)), abs=1e-9)
    kink = pf.rosenblatt(lambda x: -jnp.abs(x[0] - 0.1), box=([-2.0], [3.0])).to_line
    assert kink.log_normalizer == pytest.approx(np.log(2 - np.exp(-2.1) - np.exp(-2.9)), abs=1e-9)
    root = pf.rosenblatt(lambda x: -0.5 * jnp.log(x[0]), box=([0.0], [1.0])).to_line
    assert root.log_normalizer == pytest.approx(np.log(2.0), abs=1e-9)
    x = jnp.array([1e-12, 0.3, 0.999])
    np.testing.assert_allclose(jax.nn.sigmoid(forward(root, x[:, None])[:, 0]), jnp.sqrt(x), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("log_density", "lower", "upper", "match"),
    [
        (lambda x: jnp.log(x[0]), [-1.0], [1.0], r"not finite at \[-"),
        (lambda x: jnp.where(x[0] > 0.3, -jnp.inf, 0.0), [0.0], [1.0], r"not positive at \[0.3"),
        (lambda x: -jnp.log(jnp.abs(x[0] - 0.3)), [0.0], [1.0], r"near x\[0\] = 0.3|not finite at \[0.3"),
        (lambda x: x, [0.0], [1.0], r"returns shape \(1,\)"),
        (lambda x: x[0], [1.0], [0.0], "lower below the upper"),
        (lambda x: x[0], [0.0], [jnp.inf], "finite ends"),
        (lambda x: x[0], jnp.zeros(4), jnp.ones(4), "in 1 to 3 dimensions"),
        (dist.Normal(jnp.zeros(3), 1.0).to_event(1).log_prob, [0.0], [1.0], r"arrays of shape \(3,\), but the box"),
        (lambda x: dist.Normal(0.0, 1.0), [0.0], [1.0], "returns Normal"),
    ],
)
def test_refused_densities(log_density, lower, upper, match):
    with pytest.raises(ValueError, match=match):
        pf.rosenblatt(log_density, box=(lower, upper))


# Distributions.


@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        (dist.Normal(1.0, 2.0), scipy.stats.norm(1.0, 2.0)),
        (dist.Logistic(1.0, 2.0), scipy.stats.logistic(1.0, 2.0)),
        (dist.Laplace(1.0, 2.0), scipy.stats.laplace(1.0, 2.0)),
        (dist.Cauchy(1.0, 2.0), scipy.stats.cauchy(1.0, 2.0)),
        (dist.StudentT(3.0, 1.0, 2.0), scipy.stats.t(3.0, 1.0, 2.0)),
        (dist.Exponential(0.5), scipy.stats.expon(scale=2.0)),
        (dist.LogNormal(0.3, 0.5), scipy.stats.lognorm(0.5, scale=np.exp(0.3))),
        (dist.Gamma(2.0, 0.7), scipy.stats.gamma(2.0, scale=1 / 0.7)),
        (dist.Chi2(3.0), scipy.stats.chi2(3.0)),
        (dist.Beta(2.0, 3.0), scipy.stats.beta(2.0, 3.0)),
        (dist.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0)),
        (dist.HalfCauchy(2.0), scipy.stats.halfcauchy(scale=2.0)),
        (dist.Weibull(2.0, 1.5), scipy.stats.weibull_min(1.5, scale=2.0)),
        (dist.Gumbel(1.0, 2.0), scipy.stats.gumbel_r(1.0, 2.0)),
        (dist.Uniform(-1.0, 3.0), scipy.stats.uniform(-1.0, 4.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_log_tails(distribution, reference):
    lower, upper = reference.support()
    points = np.array([-30.0, -3.0, 1e-12, 0.01, 0.4, 0.99, 1.0, 2.5, 9.0, 25.0])
    x = points[(points > lower) & (points < upper)]
    below, above = jax.vmap(lambda x: log_tails(distribution, x))(jnp.asarray(x))
    np.testing.assert_allclose(below, reference.logcdf(x), rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(above, reference.logsf(x), rtol=1e-7, atol=1e-15)


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
        (3, "but got int"),
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
    with pytest.raises(ValueError, match="are for log-densities"):
        pf.rosenblatt(normal(2), box=([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(ValueError, match="outside of jit"):
        jax.grad(lambda m: pf.transport(normal(2), dist.Normal(m, 1.0).to_event(1)).forward(m).sum())(jnp.zeros(2))


def test_exact_maps_are_not_trained():
    assert bj.num_parameters(pf.transport(normal(2), mixture(2))) == 0
    assert bj.num_parameters(bj.Frozen(bj.Triangular(3))) == 0
    check_bijection(
        bj.Frozen(bj.Triangular(3, matrix=jnp.diag(jnp.array([1.0, 2.0, 3.0])))), key=jr.key(0), scales=(0.0,)
    )


def test_weights_of_zero_and_unions_of_conditionals():
    two = dist.MultivariateNormal(jnp.array([[0.0, 0.0], [9.0, 9.0]]), jnp.eye(2))
    mix = dist.MixtureSameFamily(dist.Categorical(jnp.array([1.0, 0.0])), two)
    x = jnp.array([[0.3, -1.0]])
    np.testing.assert_allclose(forward(pf.rosenblatt(mix), x), scipy.special.ndtr(x), rtol=1e-12)
    np.testing.assert_allclose(
        forward(pf.rosenblatt([dist.Normal(0.0, 1.0), lambda x: dist.Normal(0.0, 1.0)]), x), scipy.special.ndtr(x)
    )


def test_upper_tails_that_are_cut():
    """If a family has only a CDF, its upper tail ends at 1 - eps and is not NaN."""
    carry = pf.transport(normal(1), [dist.AsymmetricLaplace(0.0, 1.0, 2.0)])
    x = forward(carry, jnp.array([[8.0], [12.0], [30.0]]))
    assert jnp.isfinite(x).all()
    assert x[0, 0] < x[1, 0] == x[2, 0]


def test_saved_and_loaded(tmp_path):
    """A map of numbers and module-level functions can be saved like any bijection."""
    straighten = pf.rosenblatt(banana, box=([-6.0, -4.0], [6.0, 9.0]))
    pf.save(tmp_path / "map.npz", straighten)
    loaded = pf.load(tmp_path / "map.npz", trusted=[__name__])
    x = jnp.array([0.3, 1.0])
    np.testing.assert_array_equal(forward(loaded, x[None]), forward(straighten, x[None]))
