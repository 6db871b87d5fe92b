"""Bijections of others: what their parts must have in common, and what they leave to each part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints

from pushforward import bijections as bj
from pushforward.bijections.intervals import bounds
from pushforward.testing import randomize


@pytest.mark.parametrize("kind", [bj.Coupling, bj.MaskedAutoregressive, bj.RecurrentAutoregressive, None])
def test_parts_without_a_condition_beside_parts_with_one(kind):
    """In a chain and in `Amortized`, they ignore the condition; a part that needs one raises an error without it."""
    part = bj.Continuous(3, (4,), key=jr.key(0)) if kind is None else kind(bj.Affine(), 3, hidden=(4,), key=jr.key(0))
    part = randomize(part, jr.key(1), 0.5)
    conditional = bj.Coupling(bj.Affine(), 3, hidden=(4,), cond_dim=2, key=jr.key(2))
    u, condition = jnp.array([0.3, -1.0, 0.7]), jnp.ones(2)
    x, log_det = bj.Chain([part, conditional]).forward_and_log_det(u, condition)
    expected, expected_log_det = part.forward_and_log_det(u)
    np.testing.assert_allclose(x, expected, rtol=1e-9)
    np.testing.assert_allclose(log_det, expected_log_det, atol=1e-9)
    network = bj.MLP(2, bj.num_parameters(part), (4,), key=jr.key(3))
    np.testing.assert_allclose(bj.Amortized(part, network, (2,)).forward(u, condition), expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"needs a condition of shape \(2,\)"):
        conditional.forward(u)


def test_intervals_that_differ_by_coordinate_are_not_reordered():
    uneven = bj.OntoBox([constraints.unit_interval, constraints.positive])
    swap = bj.Permutation([1, 0])
    for parts in ([uneven, swap], [swap, bj.Invert(uneven)], [uneven, swap, bj.Invert(uneven)]):
        with pytest.raises(ValueError, match="not the same for all coordinates"):
            bj.Chain(parts)
    even = bj.Chain([bj.OntoBox([constraints.positive] * 2), swap, bj.Scan([swap, swap])])
    assert np.all(even.codomain.lower_bound == 0)


def test_layers_without_arrays_are_repeated_too():
    layers = bj.Scan([bj.Elementwise(bj.LeakyReLU(0.5), 2)] * 3)
    assert len(layers) == 3
    np.testing.assert_allclose(layers.forward(jnp.array([-8.0, 8.0])), [-1.0, 8.0])


# Chains.

REFUSED = {
    "part_of_a_domain": (lambda: [bj.Sigmoid(), bj.Power(3.0)], "part 0 of the chain, Sigmoid"),
    "logarithm_of_the_line": (lambda: [bj.Affine(), bj.Invert(bj.Exp())], "part 0 of the chain, Affine"),
    "power_of_the_line": (lambda: [bj.Exp(), bj.Affine(), bj.Power()], "part 0 of the chain, Exp"),
    "logit_of_positive_numbers": (lambda: [bj.Exp(), bj.Invert(bj.Sigmoid())], "part 0 of the chain, Exp"),
    "logit_of_tanh": (lambda: [bj.Tanh(), bj.Invert(bj.Sigmoid())], "part 0 of the chain, Tanh"),
    "tan_of_an_interval_too_long": (lambda: [bj.Exp(), bj.Power(), bj.Invert(bj.Arctan())], "part 1 .* Power"),
}


@pytest.mark.parametrize(("parts", "message"), REFUSED.values(), ids=REFUSED)
def test_chain_refuses_what_lies_outside_of_a_domain(parts, message):
    with pytest.raises(ValueError, match=rf"{message}, has codomain .*, which is not the domain .* of part"):
        bj.Chain(parts())


def test_chain_refuses_vectors_of_them_too():
    with pytest.raises(ValueError, match="not the domain"):
        bj.Chain([bj.Elementwise(bj.Affine(), 3), bj.Elementwise(bj.Power(), 3)])


@pytest.mark.parametrize(
    ("parts", "codomain"),
    [
        ([bj.Exp(), bj.Power(2.0), bj.Invert(bj.Softplus())], (-np.inf, np.inf)),
        ([bj.Sigmoid(), bj.Invert(bj.Sigmoid())], (-np.inf, np.inf)),
        ([bj.Identity(), bj.Exp(), bj.Identity(), bj.Power(3.0)], (0.0, np.inf)),
    ],
)
def test_chain_of_intervals(parts, codomain):
    """The codomain of a chain is that of its last part that does not keep intervals."""
    chain = bj.Chain(parts)
    assert bounds(chain.domain) == (-np.inf, np.inf)
    assert bounds(chain.codomain) == codomain
    u = np.linspace(-3.0, 3.0, 13)
    x, log_det = jax.vmap(chain.forward_and_log_det)(u)
    np.testing.assert_allclose(log_det, jnp.log(jax.vmap(jax.grad(chain.forward))(u)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(chain.inverse)(x), u, rtol=1e-10, atol=1e-12)


# Side by side.


def test_concatenated_intervals_and_refusals():
    both = bj.Concatenate([bj.Elementwise(bj.Exp(), 2), bj.Elementwise(bj.Sigmoid(), 1)])
    lower, upper = bounds(both.codomain)
    np.testing.assert_array_equal(lower, [0, 0, 0])
    np.testing.assert_array_equal(upper, [np.inf, np.inf, 1])
    x, log_det = both.forward_and_log_det(jnp.array([0.1, -0.2, 0.3]))
    sigmoid = jax.nn.sigmoid(0.3)
    np.testing.assert_allclose(x, [np.exp(0.1), np.exp(-0.2), sigmoid])
    assert log_det == pytest.approx(-0.1 + np.log(sigmoid * (1 - sigmoid)))
    with pytest.raises(ValueError, match=r"bijections of vectors, but got shapes \[\(\), \(2,\)\]"):
        bj.Concatenate([bj.Exp(), bj.Triangular(2)])
    with pytest.raises(ValueError, match="one or more"):
        bj.Concatenate([])
    with pytest.raises(TypeError, match="Concatenate takes bijections"):
        bj.Concatenate([bj.Triangular])


def test_each_coordinate_has_its_parameters():
    scalars = bj.Elementwise.each(bj.Affine, [1.0, 2.0], [3.0, 4.0])
    np.testing.assert_allclose(scalars.forward(jnp.array([1.0, 1.0])), [4.0, 6.0])


def test_layers_built_together_equal_those_built_one_by_one():
    def layer(key, scale):
        affine = bj.Elementwise(bj.Affine(scale=scale), 2)
        return bj.Chain([bj.Coupling(bj.Affine(), 2, hidden=(3,), key=key), affine])

    keys, scales = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 2.0, 3.0])
    together = bj.Scan.each(layer, keys, scales)
    one_by_one = bj.Scan([layer(k, s) for k, s in zip(keys, scales, strict=True)])
    assert len(together) == 3 and eqx.tree_equal(together, one_by_one)
