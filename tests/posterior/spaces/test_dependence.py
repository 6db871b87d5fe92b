"""Which outputs depend on which inputs."""

import jax
import jax.numpy as jnp

from pushforward.posterior.spaces.dependence import dependence, dependent


def test_dependence_follows_operations_not_values():
    def fn(inputs):
        a, b, c = inputs
        return {
            "x": 0.0 * a + 1,
            "y": jnp.sin(b) * a,
            "z": jax.lax.cond(c > 0, lambda: 1.0, lambda: 2.0),
            "w": jnp.ones(2),
        }

    shapes, sources = dependence(fn, (1.0, 2.0, 3.0))
    assert shapes["w"].shape == (2,)
    assert dict(zip(sorted(shapes), sources, strict=True)) == {"w": set(), "x": {0}, "y": {0, 1}, "z": {2}}


def test_compiled_functions_and_scans_are_looked_into():
    both = jax.jit(lambda a, b: (jnp.sin(a), jnp.cos(b)))

    def fn(inputs):
        a, b, c = inputs
        # The third part of the carry reaches the first after two steps.
        last, each = jax.lax.scan(lambda s, x: ((s[1], s[2] + x, s[2]), (s[0], 2.0, x)), (a, 0.0, b), c * jnp.ones(4))
        return {"jit": both(a, b), "carry": last, "each": each}

    _, sources = dependence(fn, (1.0, 2.0, 3.0))
    assert sources == [{1, 2}, {1, 2}, {1}, {0, 1, 2}, set(), {2}, {0}, {1}]


def test_loops_and_conditions_are_looked_into():
    def fn(inputs):
        a, b, c, d = inputs
        # The second part of the carry reaches the first after two steps; the third decides when the loop ends.
        loop = jax.lax.while_loop(lambda s: s[2] < 9, lambda s: (s[1], b, s[2] + 1, s[3]), (a, 0.0, c, d))
        counted = jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * b), (0, 1.0))
        choice = jax.lax.cond(c > 0, lambda a, b: (a, 1.0, 1), lambda a, b: (a * b, 1.0, 2), a, b)
        fixed = jax.lax.cond(True, lambda a, b: (a, b), lambda a, b: (a, 2 * b), a, b)
        return {"choice": choice, "counted": counted, "fixed": fixed, "loop": loop}

    _, sources = dependence(fn, (1.0, 2.0, 3.0, 4.0))
    choice, counted, fixed, loop = [{0, 1, 2}, {2}, {2}], [set(), {1}], [{0}, {1}], [{0, 1, 2}, {1, 2}, {2}, {3}]
    assert sources == [*choice, *counted, *fixed, *loop]


def test_names_of_what_depends_on_an_argument():
    result = {"a": lambda x: (1.0, x), "b": lambda x: jnp.zeros_like(x), "c": lambda x: [2 * x, "text"]}
    assert dependent(lambda x: {name: fn(x) for name, fn in result.items()}, 1.0) == {"a", "c"}
