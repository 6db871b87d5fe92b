"""Which arguments are traced, and which are constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from pushforward.posterior.spaces.arguments import Fixed, bind, has_constants, unbind


def test_containers_and_values_survive():
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    given = {"a": [np.array([1.0]), "text", None], "b": {1: frame, "c": np.array(["u"])}, "d": {1, 2}, "e": np.int64(3)}
    bound = bind(given, lambda _: True)
    assert [type(leaf) for leaf in jax.tree.leaves(bound)] == [type(jnp.zeros(1))]
    again = unbind(bound)
    assert again["a"][1:] == ["text", None] and again["d"] == {1, 2} and again["e"] == 3 and type(again["e"]) is int
    assert again["b"][1] is frame


def test_halving_finds_the_constants():
    arrays = [np.full(2, float(i)) for i in range(9)]
    asked = []

    def traceable(bound):
        asked.append(bound)
        return all(isinstance(bound[i], Fixed) for i in (2, 7))

    bound = bind(arrays, traceable)
    assert [i for i, leaf in enumerate(bound) if isinstance(leaf, Fixed)] == [2, 7]
    assert len(asked) < 20
    assert has_constants(bound) and not has_constants(bound[3:7])
    # Arrays that can be traced only one at a time become constants.
    pair = bind(arrays[:2], lambda bound: any(isinstance(leaf, Fixed) for leaf in bound))
    assert all(isinstance(leaf, Fixed) for leaf in pair)


def test_equal_constants_share_programs():
    assert Fixed(2) == Fixed(2) and hash(Fixed("a")) == hash(Fixed("a"))
    assert Fixed(1) != Fixed(True) and Fixed({1}) != Fixed({1})
