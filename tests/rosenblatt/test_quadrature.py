"""Rosenblatt maps by quadrature: normalizers and maps against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from rosenblatt_cases import banana, forward, round_trip


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_normalizers(dim):
    """A Gaussian truncated to a box, somewhat narrow and off center."""
    matrix = np.tril(np.full((dim, dim), 0.3)) + 0.4 * np.eye(dim)
    to_uniform = pf.rosenblatt(
        lambda x: 5.0 - 0.5 * jnp.sum(jnp.linalg.solve(matrix, x - 0.7) ** 2), box=([-6.0] * dim, [9.0] * dim)
    ).to_logits
    expected = 5.0 + np.log(np.linalg.det(matrix)) + 0.5 * dim * np.log(2 * np.pi)
    assert to_uniform.log_normalizer == pytest.approx(expected, abs=1e-8)
    assert to_uniform.error < 1e-10
    assert to_uniform.edge_density < 1e-10


@pytest.mark.parametrize("offset", [-5000.0, 5000.0])
@pytest.mark.parametrize("dim", [1, 3])
def test_offsets(dim, offset):
    """Log-densities of models may be large numbers."""
    ends = 9 * np.ones(dim)
    to_uniform = pf.rosenblatt(lambda x: offset - 0.5 * x @ x, box=(-ends, ends)).to_logits
    assert to_uniform.log_normalizer == pytest.approx(offset + 0.5 * dim * np.log(2 * np.pi), abs=1e-8)


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
    to_uniform = pf.rosenblatt(energy, box=([-4.0, -4.0], [4.0, 4.0])).to_logits
    assert to_uniform.log_normalizer == pytest.approx(log_z, abs=1e-6)


def test_saved_and_loaded(tmp_path):
    """A map of numbers and module-level functions can be saved like any bijection."""
    to_uniform = pf.rosenblatt(banana, box=([-6.0, -4.0], [6.0, 9.0]))
    pf.save(tmp_path / "map.npz", to_uniform)
    loaded = pf.load(tmp_path / "map.npz", trusted=[banana.__module__])
    x = jnp.array([0.3, 1.0])
    np.testing.assert_array_equal(forward(loaded, x[None]), forward(to_uniform, x[None]))
