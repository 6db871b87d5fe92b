"""How programs are compiled that run only a few times, and how many threads factorizations have."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray
from threadpoolctl import threadpool_limits

F = TypeVar("F", bound=Callable)
LOW_CONCURRENCY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def jit_low_concurrency(fn: F, **options: Any) -> F:
    """`eqx.filter_jit` for programs that call a log-density, with XLA's schedule for little memory on CPUs.

    XLA's usual schedule runs operations at the same time that do not depend on each other. JAX 0.10 gives the parts of
    a batch of factorizations, as `jax.vmap` of `jnp.linalg.cholesky` makes it, to the threads on which the
    factorizations wait: if as many of them run at the same time as there are threads, the program never ends. This
    schedule makes that rarer. Only more threads (the variable PJRT_NPROC) exclude it. Inside another `jit`, the
    function is called as it is.

    Args:
        fn: the function to compile.
        options: further options of the compiler, which are ignored if this version of XLA does not have them.
    """
    compiled = None

    # `updated=()`: the attributes of a class are not copied to the function.
    @functools.wraps(fn, updated=())
    def call(*args, **kwargs):
        nonlocal compiled
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            return fn(*args, **kwargs)
        if compiled is None:
            # Only now, because importing the package must not start JAX.
            known = {name: value for name, value in {**LOW_CONCURRENCY, **options}.items() if _is_known(name, value)}
            compiled = eqx.filter_jit(fn, compiler_options=known)  # pyright: ignore[reportCallIssue]
        return compiled(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


def jit_quick_compilation(fn: F, *, level: int = 0) -> F:
    """`jit_low_concurrency` with few of XLA's optimizations, for programs whose compilation takes longer than they run.

    LLVM's optimizations take half of the compilation time; kernels that MLIR generates compile slower than others.
    Programs that run a dozen times, or for some seconds, are fastest at level 1.

    Args:
        fn: the function to compile.
        level: the level of LLVM's optimizations, from 0 to 3.
    """
    return jit_low_concurrency(fn, xla_backend_optimization_level=level, xla_cpu_use_fusion_emitters=False)


def in_batches_of(
    fn: Callable[[Array], Array], points: Float[np.ndarray, "points dim"], size: int
) -> Float[np.ndarray, "points ..."]:
    """The values of a function at points, in batches of one size, so that it is compiled once; as float64.

    Args:
        fn: a function of a batch of points, which gives something for each of them.
        points: the points.
        size: the number of points of a batch.
    """
    found = None
    for start in range(0, len(points), size):
        part = points[start : start + size]
        values = np.asarray(fn(jnp.asarray(np.pad(part, ((0, size - len(part)), (0, 0)), mode="edge"))))
        if found is None:
            found = np.empty((len(points), *values.shape[1:]))
        found[start : start + size] = values[: len(part)]
    assert found is not None, "there are no points"
    return found


def one_blas_thread() -> Any:
    """A context manager, and a decorator, that gives SciPy's BLAS one thread.

    JAX calls this BLAS for factorizations on the CPU, where its threads compete with JAX's own: with two of each on two
    cores, the eigenvectors of a matrix of 175 rows took 160 ms instead of 3 ms.
    """
    return threadpool_limits.wrap(limits=1, user_api="blas")


@functools.cache
def _is_known(name: str, value: int | bool | str) -> bool:
    """Whether this version of XLA has the option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def split(key: PRNGKeyArray, num: int = 2) -> tuple[PRNGKeyArray, ...]:
    """The first keys of `jax.random.split` as a tuple.

    It compiles one program for numbers up to 8, one for 9 to 16, and so on, each in a third of the time of the one that
    `jax.random.split` compiles for every number.

    Args:
        key: the key to split.
        num: how many keys to return.
    """
    return _split(key, max(8, 1 << (num - 1).bit_length()))[:num]


@jit_quick_compilation
def _split(key: PRNGKeyArray, num: int) -> tuple[PRNGKeyArray, ...]:
    return tuple(jr.split(key, num))
