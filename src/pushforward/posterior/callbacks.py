"""Functions outside of JAX that it calls, by `jax.pure_callback` or `io_callback`: exceptions become results.

An exception at one point of a batch ends the whole compiled program. Here it is caught on the host: the results are NaN
there, and whether there was an exception is one more result. A function that gets a whole batch at once is called again
with parts of it, to find the points at which it raises.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jax.extend.core import JaxprEqn
from jaxtyping import Array, Bool

CALLBACKS = ("pure_callback", "io_callback")
# Errors of the code or of the machine do not depend on the point: they are raised.
NOT_OF_THE_POINT = (
    TypeError, NameError, AttributeError, ImportError, NotImplementedError, RecursionError, OSError, MemoryError,
)  # fmt: skip
# Callbacks of these packages are no functions of the user.
OTHER_PACKAGES = ("equinox", "pushforward")


def calls_user(equation: JaxprEqn) -> bool:
    """Whether an equation calls a function of the user outside of JAX.

    Args:
        equation: the equation.
    """
    if equation.primitive.name not in CALLBACKS:
        return False
    module = getattr(function_of(equation), "__module__", None) or ""
    return module.split(".")[0] not in OTHER_PACKAGES


def function_of(equation: JaxprEqn) -> Any:
    """The function that an equation calls.

    Args:
        equation: an equation of a callback.
    """
    return getattr(equation.params["callback"], "callback_func", equation.params["callback"])


def without_exceptions(equation: JaxprEqn, values: Sequence[Any]) -> tuple[list, Bool[Array, ""]]:
    """The results of an equation of a callback, and whether it raised an exception.

    Args:
        equation: the equation.
        values: the values of its operands.
    """
    parameters = equation.params
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in parameters["result_avals"]]
    operands: Any = [variable.aval for variable in equation.invars]
    num_axes = tuple(aval.ndim for aval in operands)
    fn = _Caught(parameters["callback"], num_axes, tuple((shape.shape, shape.dtype) for shape in shapes))
    asked = [*shapes, jax.ShapeDtypeStruct((), jnp.bool_)]
    if equation.primitive.name == "io_callback":
        found = io_callback(fn, asked, *values, sharding=parameters["sharding"], ordered=parameters["ordered"])
    else:
        found = jax.pure_callback(
            fn, asked, *values, sharding=parameters["sharding"], vmap_method=parameters["vmap_method"]
        )
    *results, failed = found
    return results, failed


@dataclasses.dataclass(frozen=True)
class _Caught:
    """A callback that returns instead of raising; equal for equal callbacks.

    Args:
        callback: the function of arrays to a list of arrays.
        num_axes: the number of axes of each argument without axes of batches.
        results: the shape and the dtype of each result without axes of batches.
    """

    callback: Any
    num_axes: tuple[int, ...]
    results: tuple[tuple[tuple[int, ...], Any], ...]

    def __call__(self, *args: Any) -> list:
        num_batch_axes = args[0].ndim - self.num_axes[0] if args else 0
        batch = np.broadcast_shapes(*(a.shape[:num_batch_axes] for a in args))
        try:
            return [*self.callback(*args), np.zeros(batch, bool)]
        except NOT_OF_THE_POINT:
            raise
        except Exception:  # whatever the function of the user raises
            if np.prod(batch) > 1:
                return self._in_halves(args, batch)
            values = [
                np.full(batch + shape, np.nan if dtype.kind == "f" else 0, dtype) for shape, dtype in self.results
            ]
            return [*values, np.ones(batch, bool)]

    def _in_halves(self, args: Sequence[Any], batch: tuple[int, ...]) -> list:
        """The results of each half of a batch, which may be halved again: few calls if few points raise."""
        axis = int(np.argmax(batch))
        half = batch[axis] // 2
        parts = []
        for rows in (slice(None, half), slice(half, None)):
            chosen = [np.asarray(a)[(slice(None),) * axis + (rows,)] if a.shape[axis] > 1 else a for a in args]
            parts.append(self(*chosen))
        return [np.concatenate(halves, axis=axis) for halves in zip(*parts, strict=True)]
