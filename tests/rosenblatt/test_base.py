"""All Rosenblatt maps: conformance, and their Jacobian is triangular with the density as its determinant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from products import few
from pushforward import bijections as bj
from pushforward.testing import check_bijection
from rosenblatt_cases import banana, mixture, normal, round_trip


def chained():
    """Supports of all kinds, and heavy tails."""
    return (
        dist.Uniform(-1.0, 2.0),
        lambda x: dist.LogNormal(0.3 * x[0], jnp.exp(0.2 * x[0])),
        lambda x: dist.StudentT(3.0, x[0], 2.0),
    )


MAPS = {
    "mixture": lambda: pf.rosenblatt(mixture(3)).to_logits.bijection,
    "conditionals": lambda: pf.rosenblatt(chained()).to_logits,
    "quadrature": lambda: pf.rosenblatt(banana, box=([-6.0, -4.0], [6.0, 9.0])).to_logits,
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
        to_uniform = MAPS[name]()
        carry = pf.transport(normal(to_uniform.dim), to_uniform)
        # Farther out, numbers near an end of a support are too coarse for a round trip.
        z = jnp.clip(2 * jr.normal(jr.key(0), (100, *carry.shape)), -3, 3)
        x, log_det, back, log_det_back = round_trip(carry, z)
        assert x.dtype == log_det.dtype == jnp.float32
        np.testing.assert_allclose(back, z, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-3, atol=1e-3)


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


def test_the_jacobian_is_triangular_and_its_determinant_the_density():
    for name, (to_uniform, log_prob, draw) in maps_and_log_probs().items():
        if log_prob is None:
            x = jnp.stack([jnp.linspace(-5, 5, 21), jnp.linspace(-3, 8, 21)], 1)
            log_z = to_uniform.to_logits.log_normalizer
            expected = jax.vmap(banana)(x) - log_z
        else:
            x = draw(jr.key(1), (40,))
            expected = log_prob(x)
        log_det, jacobians = map(np.asarray, log_det_and_jacobian(to_uniform, x))
        np.testing.assert_allclose(log_det, expected, rtol=1e-8, atol=1e-8, err_msg=name)
        assert not np.triu(jacobians, 1).any(), name
        fine = np.abs(log_det) < 30
        np.testing.assert_allclose(np.linalg.slogdet(jacobians[fine])[1], log_det[fine], atol=1e-8, err_msg=name)
