"""Trees as JSON values and arrays."""

import math
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions.constraints import Constraint

from pushforward.serialization.classes import field_names, is_data_class
from pushforward.serialization.names import COMPILED, import_name


def encode(tree: PyTree) -> tuple[Any, list[np.ndarray]]:
    """The description of a tree and its arrays.

    Args:
        tree: the tree.

    Raises:
        ValueError: if it holds what cannot be saved, or is nested too deeply.
    """
    arrays = []
    try:
        return _encode(tree, "", arrays), arrays
    except RecursionError:
        raise ValueError("cannot save the tree: it is nested too deeply, or holds itself.") from None


def _encode(x: Any, where: str, arrays: list[np.ndarray]) -> Any:
    """Describe x by JSON values and append its arrays to `arrays`; `where` is its path in the tree."""

    def described(kind: str, x: Any, **more: str) -> dict[str, str]:
        x = np.asarray(x)
        if x.dtype.isbuiltin == 2:  # bfloat16 and similar dtypes, which .npy files do not support
            more["dtype"], x = x.dtype.name, x.view(f"u{x.dtype.itemsize}")
        arrays.append(x)
        return {"kind": kind, "array": str(len(arrays) - 1), **more}

    cls: Any = type(x)
    if x is None or cls in (bool, int, str) or (cls is float and math.isfinite(x)):
        return x
    if cls in (float, complex):
        return {"kind": cls.__name__, "value": repr(x)}
    if cls in (list, tuple):
        items = [_encode(item, f"{where}[{i}]", arrays) for i, item in enumerate(x)]
        return items if cls is list else {"kind": "tuple", "items": items}
    if cls in (dict, OrderedDict):
        items = [[_encode(k, where, arrays), _encode(v, f"{where}[{k!r}]", arrays)] for k, v in x.items()]
        return {"kind": cls.__name__, "items": items}
    if issubclass(cls, np.dtype) and x.names is None:
        return {"kind": "dtype", "name": x.name if x.isbuiltin == 2 else x.str}
    if isinstance(x, jax.tree_util.PyTreeDef):
        return {"kind": "structure", "tree": _encode(jax.tree.unflatten(x, range(x.num_leaves)), where, arrays)}
    if isinstance(x, jax.Array):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return described("key", jax.random.key_data(x), impl=str(jax.random.key_impl(x)))
        return described("weak" if x.aval.weak_type else "jax", x)
    if (cls is np.ndarray or issubclass(cls, np.generic)) and not x.dtype.hasobject:
        return described("numpy" if cls is np.ndarray else "scalar", x)
    # Constraints such as `real` are also saved by name: each has one instance, and NumPyro compares them by identity.
    by_name = hasattr(x, "__qualname__") or isinstance(x, (Constraint, *COMPILED))
    if by_name and (name := import_name(x)):
        return {"kind": "name", "name": name}
    if is_data_class(cls) and (name := import_name(cls)):
        fields = {n: _encode(getattr(x, n, None), f"{where}.{n}", arrays) for n in field_names(x)}
        return {"kind": "object", "class": name, "fields": fields}
    named: Any = x if hasattr(x, "__qualname__") else cls
    advice = "is of a type that cannot be saved; put its content into arrays, numbers, strings, tuples, lists or dicts"
    if named is x or is_data_class(cls):
        advice = (
            "cannot be imported by its name; define it at the top level of a module, not as a lambda, closure, method "
            "or local class (a function that holds data can be an equinox.Module)"
        )
    raise ValueError(f"cannot save {where or 'the tree'}: {named.__module__}.{named.__qualname__} {advice}.")
