"""Options of compilation."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr

from pushforward.training import compilation


def test_compile_options_that_xla_does_not_know_are_left_out(monkeypatch):
    """They come and go with its versions."""
    monkeypatch.setattr(compilation.jax, "jit", refusing(compilation.jax.jit))
    compilation._is_known.cache_clear()
    assert compilation.jit_quick_compilation(lambda x: x + 1)(jnp.ones(2)).tolist() == [2.0, 2.0]
    compilation._is_known.cache_clear()


def test_split_gives_the_keys_of_jax():
    for num in (0, 1, 2, 8, 9, 40):
        keys = compilation.split(jr.key(3), num)
        assert [k.tolist() for k in map(jr.key_data, keys)] == jr.key_data(jr.split(jr.key(3), num)).tolist()


TWO_FACTORIZATIONS = """
import jax, jax.numpy as jnp
from pushforward.training.compilation import jit_low_concurrency

matrix = jnp.exp(-jnp.abs(jnp.arange(12)[:, None] - jnp.arange(12)))
one = lambda x: jnp.linalg.cholesky(jnp.exp(x) * jnp.eye(12) + matrix).sum()
two = jit_low_concurrency(jax.vmap(lambda x: one(x) - one(x + 1)))
x = jnp.linspace(-1, 1, 4096)
for _ in range(100):
    two(x).block_until_ready()
"""


def test_batches_of_factorizations_do_not_wait_for_each_other():
    """In a process of its own, because it would not end."""
    subprocess.run([sys.executable, "-c", TWO_FACTORIZATIONS], check=True, timeout=120)


def test_functions_are_called_as_they_are_inside_another_jit():
    """Options of compilation are only for whole programs."""
    inner = compilation.jit_low_concurrency(lambda x: x + 1)
    assert jax.jit(lambda x: 2 * inner(x))(jnp.ones(2)).tolist() == [4.0, 4.0]


def refusing(jit):
    """`jax.jit` of an XLA that knows one of the options."""

    def call(fn, *, compiler_options=None, **options):
        unknown = {f"no_{name}" if "cpu" in name else name: value for name, value in (compiler_options or {}).items()}
        return jit(fn, compiler_options=unknown, **options)

    return call
