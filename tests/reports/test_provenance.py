"""The call and the key that repeat a fit."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.reports.provenance import key_text, provenance

KEYS = {
    "seed": jr.key(7), "old": jr.PRNGKey(7), "split": jr.split(jr.key(0))[1], "folded": jr.fold_in(jr.key(1), 2),
    "rbg": jr.key(3, impl="rbg"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_the_text_makes_the_same_key(name):
    key = KEYS[name]
    again = eval(key_text(key), {"jax": jax})
    np.testing.assert_array_equal(jr.key_data(again), jr.key_data(key))
    if name != "old":
        assert jnp.array_equal(jr.uniform(again), jr.uniform(key))


def test_facts():
    assert key_text(jr.key(7)) == "jax.random.key(7)"
    facts = dict(provenance("fit(key={key}, budget=3)", jr.key(7), largest_step=3))
    assert facts["call"] == "fit(key=jax.random.key(7), budget=3)" and facts["largest step"] == "3"
    assert facts["random key"] == "jax.random.key(7)"
    assert jax.__version__ in facts["versions"] and facts["precision"] == "float64"
