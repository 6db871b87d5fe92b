"""Every scalar bijection with every conditioner, far from initialization."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints

from cases import COND_DIM, HIDDEN, SCALARS, transformer_of
from pushforward import bijections as bj
from pushforward.bijections.intervals import bounds
from pushforward.testing import map_to_domain, randomize
from pushforward.training.compilation import jit_quick_compilation

CONDITIONERS = {
    "coupling": bj.Coupling,
    "masked": bj.MaskedAutoregressive,
    "recurrent": bj.RecurrentAutoregressive,
}


@jit_quick_compilation
def both_ways(bijection, u, condition, weights):
    """Values, Jacobians, log-determinants, and gradients by all arrays, in one program to save compilation."""

    def one(bijection, u):
        x, log_det = bijection.forward_and_log_det(u, condition)
        back, inverse_log_det = bijection.inverse_and_log_det(jax.lax.stop_gradient(x), condition)
        forward, inverse = x @ weights + log_det, 2 * back @ weights + inverse_log_det
        return forward + inverse, (x, log_det, back, inverse_log_det)

    def total(bijection):
        totals, found = jax.vmap(lambda u: one(bijection, u))(u)
        return totals.sum(), found

    gradient, found = eqx.filter_grad(total, has_aux=True)(bijection)
    jacobian = jax.vmap(jax.jacfwd(lambda u: bijection.forward(u, condition)))(u)
    return found, jacobian, gradient


# One transformer without arrays is enough, because all of them follow an affine map.
USED = [name for name, scalar in SCALARS.items() if bj.num_parameters(scalar()) or name == "exp"]


# x64, dimension, condition and tolerance. Without a condition and in two dimensions, float32 compiles in less time.
FLOAT64, FLOAT32 = (True, 3, COND_DIM, 1e-10), (False, 2, None, 1e-4)


def products():
    """Each transformer with one conditioner and in one precision, in turn; `make conformance` has all others."""
    for (i, kind), (j, scalar) in itertools.product(enumerate(CONDITIONERS), enumerate(USED)):
        for number, (name, case) in enumerate({"float64": FLOAT64, "float32": FLOAT32}.items()):
            marks = [] if (i + j) % len(CONDITIONERS) == 0 and j % 2 == number else [pytest.mark.conformance]
            yield pytest.param(kind, scalar, *case, id=f"{kind}-{scalar}-{name}", marks=marks)


@pytest.mark.parametrize(("kind", "scalar", "x64", "dim", "cond_dim", "tolerance"), [*products()])
def test_every_transformer_with_every_conditioner(kind, scalar, x64, dim, cond_dim, tolerance):
    with jax.enable_x64(x64):
        transformer, keys = transformer_of(scalar), jr.split(jr.key(0), 5)
        bijection = CONDITIONERS[kind](transformer, dim, hidden=HIDDEN, cond_dim=cond_dim, key=keys[0])
        bijection = randomize(bijection, keys[1], 1.0)
        # Unchanged coordinates have a larger domain, so all points are in the transformer's domain. They are not far
        # out, where saturating functions lose digits.
        u = map_to_domain(transformer.domain, jr.normal(keys[2], (8, dim)))
        condition = None if cond_dim is None else jr.normal(keys[3], (cond_dim,))
        found, jacobian, gradient = both_ways(bijection, u, condition, jr.normal(keys[4], (dim,)))
    x, log_det, back, inverse_log_det = found
    lower, upper = bounds(bijection.codomain)
    assert np.all((lower < x) & (x < upper))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=tolerance, atol=tolerance)
    # Where the inverse is steep, rounding of x is amplified.
    allowed = tolerance * np.maximum(np.linalg.norm(np.linalg.inv(jacobian), axis=(1, 2)), 1)
    assert np.all(np.abs(back - u).max(1) <= allowed * (1 + np.abs(u).max(1)))
    assert np.all(np.abs(inverse_log_det + log_det) <= allowed * (1 + np.abs(log_det)))
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # In two dimensions, a coordinate without parents has a network without inputs.
        assert not leaf.size or np.any(leaf), path


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_ranges_that_do_not_fit_are_refused(kind):
    """A logarithm after a map onto the line is refused, with the parts' names; after a map onto (0, inf) it is not."""
    key, logarithm = jr.key(0), bj.Elementwise(bj.Invert(bj.Exp()), 3)
    with pytest.raises(ValueError, match="part 0 .*codomain .* of part 1, Elementwise"):
        bj.Chain([CONDITIONERS[kind](bj.Affine(), 3, key=key), logarithm])
    positive = CONDITIONERS[kind](transformer_of("exp"), 3, key=key, **WHOLE.get(kind, {}))
    chain = bj.Chain([positive, logarithm])
    assert chain.codomain is constraints.real
    np.testing.assert_allclose(chain.forward(jnp.array([-1.0, 0.0, 2.0])), [-1.0, 0.0, 2.0], atol=1e-12)


@pytest.mark.parametrize("kind", CONDITIONERS)
def test_nothing_to_supply_is_refused(kind):
    with pytest.raises(ValueError, match="Exp has none"):
        CONDITIONERS[kind](bj.Exp(), 3, key=jr.key(0))


# A coupling leaves some coordinates unchanged, unless they are transformed too.
WHOLE = {"coupling": {"transform_head": True}}
