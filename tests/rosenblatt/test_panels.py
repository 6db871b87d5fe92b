"""Adaptive quadrature finds peaks, kinks and integrable ends, and refuses densities without an integral."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from rosenblatt_cases import forward


def test_boxes_that_cut():
    to_uniform = pf.rosenblatt(lambda x: -x[0], box=([0.0], [2.0])).to_logits
    assert to_uniform.edge_density == pytest.approx(2 / (1 - np.exp(-2.0)), rel=0.02)


def test_peaks_between_the_nodes_are_found():
    log_density = lambda x: jnp.logaddexp(-0.5 * x[0] ** 2, -0.5 * ((x[0] - 3.21) / 1e-3) ** 2 + jnp.log(1e3))  # noqa: E731
    to_uniform = pf.rosenblatt(log_density, box=([-8.0], [8.0])).to_logits
    assert to_uniform.log_normalizer == pytest.approx(np.log(2 * np.sqrt(2 * np.pi)), abs=1e-8)


def test_narrow_peaks_and_kinks():
    peak = pf.rosenblatt(lambda x: -0.5 * ((x[0] - 0.123) / 1e-4) ** 2, box=([-5.0], [5.0])).to_logits
    assert peak.log_normalizer == pytest.approx(np.log(1e-4 * np.sqrt(2 * np.pi)), abs=1e-9)
    kink = pf.rosenblatt(lambda x: -jnp.abs(x[0] - 0.1), box=([-2.0], [3.0])).to_logits
    assert kink.log_normalizer == pytest.approx(np.log(2 - np.exp(-2.1) - np.exp(-2.9)), abs=1e-9)
    root = pf.rosenblatt(lambda x: -0.5 * jnp.log(x[0]), box=([0.0], [1.0])).to_logits
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
