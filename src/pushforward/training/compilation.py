"""How programs are compiled that run once or a few times."""

import functools
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

F = TypeVar("F", bound=Callable)


def compiled_fast(fn: F, *, level: int = 0) -> F:
    """`eqx.filter_jit` without XLA's last optimisations: what takes long is to compile the program, not to run it.

    LLVM's optimisations take half of the time, and kernels made by MLIR more of the rest than those made without.
    What runs a dozen times, or a loop of some seconds, is best at level 1. It is not for use within another `jit`.
    """
    compiled = None

    # `updated`: a class's own names are no function's.
    @functools.wraps(fn, updated=())
    def call(*args, **kwargs):
        nonlocal compiled
        if compiled is None:
            # Not before, for to import the package must not start JAX.
            options = {"xla_backend_optimization_level": level}
            if _is_known("xla_cpu_use_fusion_emitters", False):
                options["xla_cpu_use_fusion_emitters"] = False
            compiled = eqx.filter_jit(fn, compiler_options=options)  # pyright: ignore[reportCallIssue]
        return compiled(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


@functools.cache
def _is_known(name: str, value: int | bool) -> bool:
    """Whether this XLA has the option: they come and go."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@compiled_fast
def split(key: PRNGKeyArray, num: int = 2) -> tuple[PRNGKeyArray, ...]:
    """The keys of `jax.random.split`, in a third of the time where each number of them is wanted once."""
    return tuple(jr.split(key, num))
