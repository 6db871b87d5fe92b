"""Options of compilation."""

import jax.numpy as jnp

from pushforward.training import compilation


def test_compile_options_that_xla_does_not_know_are_left_out(monkeypatch):
    """They come and go with its versions."""
    monkeypatch.setattr(compilation.jax, "jit", refusing(compilation.jax.jit))
    compilation._is_known.cache_clear()
    assert compilation.jit_quick_compilation(lambda x: x + 1)(jnp.ones(2)).tolist() == [2.0, 2.0]
    compilation._is_known.cache_clear()


def refusing(jit):
    """`jax.jit` of an XLA that knows one of the options."""

    def call(fn, *, compiler_options=None, **options):
        unknown = {f"no_{name}" if "cpu" in name else name: value for name, value in (compiler_options or {}).items()}
        return jit(fn, compiler_options=unknown, **options)

    return call
