"""How programs are compiled that run once or a few times."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx

F = TypeVar("F", bound=Callable)


# LLVM's optimisations take half of the time, and kernels made by MLIR more of the rest than those made without.
FAST = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compiled_fast(fn: F) -> F:
    """`eqx.filter_jit` without XLA's last optimisations: what takes long is to compile the program, not to run it."""
    return eqx.filter_jit(fn, compiler_options=FAST)  # pyright: ignore[reportCallIssue]
