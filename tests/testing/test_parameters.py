"""Random parameters are equally large in all arrays."""

import jax
import jax.random as jr
import numpy as np

from pushforward import bijections as bj
from pushforward.testing import randomize


def test_random_parameters_are_as_large_wherever_they_are():
    """Vectors that are stacked along layers and coordinates do not count as matrices."""
    layers = [bj.Elementwise(bj.RationalQuadraticSpline(bins=50), 40) for _ in range(3)]
    for tree, attribute in ((layers[0], "scalars"), (bj.Scan(layers), "stacked")):
        raw = randomize(tree, jr.key(0), 3.0)
        for leaf in jax.tree.leaves(getattr(raw, attribute)):
            np.testing.assert_allclose(leaf.std(), 3.0, rtol=0.1)
    network = randomize(bj.Scan([bj.Coupling(bj.Affine(), 8, key=jr.key(0))] * 9), jr.key(0), 1.0).stacked.network
    np.testing.assert_allclose([network.weights[-1].std() * 8, network.biases[-1].std()], 1.0, rtol=0.15)
