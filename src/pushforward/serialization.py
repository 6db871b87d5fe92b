"""Saving and loading of flows, results and pytrees of them in one file, without pickle.

A file is an .npz archive of the arrays and a JSON document that describes the tree. Classes and functions are saved by
name, so loading a file runs no code from the file.
"""

import dataclasses
import importlib
import io
import json
import math
import os
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from pushforward.files import replacing
from pushforward.user_warnings import warn

FORMAT = 1
DOCUMENT = "pushforward.json"

# The names that a file may use without being trusted. Instances of some classes call a function with arguments, and a
# file can choose both. So functions must be JAX-compiled or ufuncs, or come from a module of functions without effects
# (`pushforward.save`, for example, writes a file). Equinox itself is left out because its wrappers call functions.
PACKAGES = ("pushforward", "numpyro", "jax", "equinox.nn", "diffrax", "optax", "numpy", "builtins")
COMPILED = (jax.stages.Wrapped, jax.custom_jvp, jax.custom_vjp, jnp.ufunc, np.ufunc)
FUNCTIONS = ("pushforward.bijections", "pushforward.rosenblatt", "equinox.nn", "jax.nn", "jax.lax", "jax.scipy")
SCALARS = (int, float, complex, str, np.generic)
# The current names of classes and functions that files of earlier versions use under old names.
RENAMED: dict[str, str] = {
    "pushforward.bijections.conditionals:_Always": "pushforward.rosenblatt.conditionals:_Always",
    "pushforward.bijections.conditionals:NumPyroLaw": "pushforward.rosenblatt.conditionals:UnivariateNumPyro",
    "pushforward.bijections.panels:Grid": "pushforward.rosenblatt.panels:Grid",
    "pushforward.bijections.quadrature:PanelLaw": "pushforward.rosenblatt.quadrature:PanelDistribution",
    "pushforward.bijections.quadrature:_Slice": "pushforward.rosenblatt.quadrature:_Slice",
    "pushforward.bijections.rosenblatt:GaussianMixtureLaw": "pushforward.rosenblatt.mixture:UnivariateGaussianMixture",
    "pushforward.bijections:ConditionalRosenblatt": "pushforward.rosenblatt.conditionals:ConditionalRosenblatt",
    "pushforward.bijections:GaussianMixtureRosenblatt": "pushforward.rosenblatt.mixture:GaussianMixtureRosenblatt",
    "pushforward.bijections:QuadratureRosenblatt": "pushforward.rosenblatt.quadrature:QuadratureRosenblatt",
    "pushforward:NamedFlow": "pushforward.density.result:Density",
    "pushforward.universality:Rosenblatt": "pushforward.rosenblatt.transport:Rosenblatt",
    "pushforward.universality:_Coordinate": "pushforward.rosenblatt.transport:_Coordinate",
    # These two were functions that found the data in a target.
    "pushforward.posterior.amortized:_density_data": "pushforward.posterior.spaces.base:SupportSpace",
    "pushforward.posterior.amortized:_model_data": "pushforward.posterior.spaces.numpyro:NumpyroSpace",
    "pushforward.posterior.amortized:_Given": "pushforward.posterior.conditional:JointAtData",
    "pushforward.posterior.amortized:_all_numbers": "pushforward.posterior.amortized:AllNumbers",
    "pushforward.posterior.amortized:AtCondition": "pushforward.bijections.amortized:AtCondition",
    "pushforward.posterior.amortized:Ranks": "pushforward.posterior.ranks:Ranks",
    "pushforward.posterior.numpyro_model:NumpyroSpace": "pushforward.posterior.spaces.numpyro:NumpyroSpace",
    "pushforward.posterior.posterior:TracePoint": "pushforward.training.history:Evaluation",
    "pushforward.posterior.precondition:Candidate": "pushforward.posterior.candidates:Candidate",
    "pushforward.posterior.target:Labels": "pushforward.posterior.spaces.base:Labels",
    "pushforward.posterior.target:SupportSpace": "pushforward.posterior.spaces.base:SupportSpace",
}
# The `__module__` of JAX's functions is private; these public names are more stable.
PUBLIC = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")


def save(path: str | os.PathLike, tree: PyTree) -> None:
    """Save a flow, a result or any pytree of them to one file.

    A tree may hold Equinox modules and other dataclasses, NumPyro distributions, constraints and transforms, (named)
    tuples, lists, dicts, arrays, random keys, numbers, strings, dtypes, tree structures, and functions and classes from
    the top level of a module, which are saved by name. The file is an .npz archive that `numpy.load` reads too.

    Args:
        path: the path of the file; no suffix is added. An existing file is replaced, but kept if saving fails.
        tree: the pytree to save.

    Raises:
        ValueError: if the tree holds anything else, for example a lambda; the message gives its path in the tree.
    """
    with replacing(path) as part:
        _write(part, tree)


def to_bytes(tree: PyTree) -> bytes:
    """The content of the file that `save` would write.

    Args:
        tree: the tree to save.
    """
    file = io.BytesIO()
    _write(file, tree)
    return file.getvalue()


def from_bytes(data: bytes) -> PyTree:
    """Load the tree that `to_bytes` encoded. Unlike `load`, it trusts all imported modules.

    Args:
        data: the result of `to_bytes`.
    """
    return load(io.BytesIO(data), trusted=[*sys.modules])


def _write(file: Path | io.BytesIO, tree: PyTree) -> None:
    arrays = []
    versions = {package: metadata.version(package) for package in ("pushforward", "jax", "equinox", "numpyro")}
    document = json.dumps({"format": FORMAT, "versions": versions, "tree": _encode(tree, "", arrays)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(DOCUMENT, document)
        for index, array in enumerate(arrays):
            with archive.open(f"{index}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str | os.PathLike | io.BytesIO, *, trusted: Sequence[str] = ()) -> PyTree:
    """Load a file that `save` wrote.

    Loading runs no code that the file chooses. The file may use data classes of this library, NumPyro, JAX, Optax,
    Diffrax and `equinox.nn`, whose fields are set without calling a constructor, and functions of these packages
    without side effects. Arrays keep their dtypes, except that 64-bit JAX arrays become 32-bit arrays, with a warning,
    if JAX is not in 64-bit mode.

    Args:
        path: the path of the file, or a file object that reads bytes.
        trusted: further modules or packages that the file may use, such as those of your own classes and functions.
            Loading imports them.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if `save` did not write the file, if it is damaged or of a newer format, if it names anything that
            is not trusted or does not exist, or if the fields of a class have changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read(DOCUMENT))
            versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
            source = f"{path} (saved with {versions})"
            if document["format"] > FORMAT:
                raise ValueError(
                    f"{source} has format {document['format']}, but this version of pushforward reads formats up to "
                    f"{FORMAT}: upgrade it."
                )
            decoder = _Decoder(archive, (trusted,) if isinstance(trusted, str) else tuple(trusted), source)
            tree = decoder.decode(document["tree"])
    except (zipfile.BadZipFile, EOFError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a file of pushforward.save, or is truncated or damaged: {error}") from error
    if decoder.narrowed:
        warn(
            f"{path} holds 64-bit arrays, which were converted to 32 bits because JAX is not in 64-bit mode; to keep "
            'them, call jax.config.update("jax_enable_x64", True) before loading.'
        )
    return tree


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
    if by_name and (name := _import_name(x)):
        return {"kind": "name", "name": name}
    if _is_data_class(cls) and (name := _import_name(cls)):
        fields = {n: _encode(getattr(x, n, None), f"{where}.{n}", arrays) for n in _field_names(x)}
        return {"kind": "object", "class": name, "fields": fields}
    named: Any = x if hasattr(x, "__qualname__") else cls
    advice = "is of a type that cannot be saved; put its content into arrays, numbers, strings, tuples, lists or dicts"
    if named is x or _is_data_class(cls):
        advice = (
            "cannot be imported by its name; define it at the top level of a module, not as a lambda, closure, method "
            "or local class (a function that holds data can be an equinox.Module)"
        )
    raise ValueError(f"cannot save {where or 'the tree'}: {named.__module__}.{named.__qualname__} {advice}.")


class _Decoder:
    """Rebuilds a tree from its description."""

    def __init__(self, archive: zipfile.ZipFile, trusted: tuple[str, ...], source: str):
        self.archive, self.trusted, self.source = archive, trusted, source
        self.narrowed = False

    def decode(self, node: Any) -> Any:
        match node:
            case None | bool() | int() | float() | str():
                return node
            case list():
                return [self.decode(item) for item in node]
            case {"kind": "tuple", "items": items}:
                return tuple(self.decode(item) for item in items)
            case {"kind": "dict" | "OrderedDict" as kind, "items": items}:
                pairs = [(self.decode(key), self.decode(value)) for key, value in items]
                return dict(pairs) if kind == "dict" else OrderedDict(pairs)
            case {"kind": "float" | "complex" as kind, "value": value}:
                return float(value) if kind == "float" else complex(value)
            case {"kind": "dtype", "name": name}:
                return np.dtype(name)
            case {"kind": "structure", "tree": tree}:
                return jax.tree.structure(self.decode(tree))
            case {"kind": "jax" | "weak" | "key" | "numpy" | "scalar" as kind, "array": index}:
                return self.array(kind, index, node)
            case {"kind": "name", "name": name}:
                return self.resolve(name)
            case {"kind": "object", "class": "pushforward.bijections.constant:Constant", "fields": fields}:
                return self.constant(fields)
            case {"kind": "object", "class": name, "fields": fields}:
                return self.build(self.resolve(name), {n: self.decode(value) for n, value in fields.items()})
        raise ValueError(f"{self.source} holds a value that this version cannot read: {str(node)[:80]}")

    def constant(self, fields: dict[str, Any]) -> Any:
        """A `Constant` of version 0.1, which stored numbers as integers with the same bits, separate from the tree."""
        dtypes, others = self.decode(fields["dtypes"]), self.decode(fields["others"])

        def leaf(i: int) -> Any:
            node = fields["arrays"]["items"][i]
            if node is None or dtypes[i] is None:
                return others[i] if node is None else self.decode(node)
            # Decoded with NumPy, because in 32-bit mode JAX would truncate 64-bit integers.
            array = self.array("numpy", node["array"], node).view(np.dtype(dtypes[i]))
            self.narrowed |= jnp.asarray(array).dtype != array.dtype
            return jnp.asarray(array)

        # The leaves of the structure are the indices of the arrays.
        tree = jax.tree.map(leaf, self.decode(fields["structure"]["tree"]))
        return self.resolve("pushforward.bijections.arrays:Constant")(tree)

    def array(self, kind: str, index: str, node: dict[str, str]) -> Any:
        # Read the whole entry, because only that verifies its checksum.
        array = np.load(io.BytesIO(self.archive.read(f"{index}.npy")), allow_pickle=False)
        array = array.view(np.dtype(node["dtype"])) if "dtype" in node else array
        if kind == "key":
            return jax.random.wrap_key_data(array, impl=node["impl"])
        if kind in ("numpy", "scalar"):
            return array if kind == "numpy" else array[()]
        strong = jnp.asarray(array)
        self.narrowed |= strong.dtype != array.dtype
        # Weakly typed arrays, made from Python numbers, take the dtypes of other arrays.
        return jnp.full(array.shape, array.dtype.type(0).item()).at[...].set(strong) if kind == "weak" else strong

    def resolve(self, name: str) -> Any:
        """The class, function or constraint with this name, if the file may use it."""
        module, _, attribute = RENAMED.get(name, name).partition(":")
        trusted = _within(module, self.trusted)
        if trusted or (_within(module, PACKAGES) and "__main__" not in module):
            try:
                found = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise ValueError(f"{self.source} needs {name}, which does not exist: {error}.") from error
            if trusted or _is_harmless(found, module):
                return found
        raise ValueError(
            f"{self.source} uses {name}, which files may not use by default. If you trust this file and that code, "
            f"load it with trusted=({module!r},)."
        )

    def build(self, cls: Any, fields: dict[str, Any]) -> Any:
        """An instance with these fields, made without the constructor; missing fields take their defaults."""
        if not _is_data_class(cls):
            raise ValueError(f"{self.source} holds an instance of {cls}, which is not a data class.")
        # A class whose fields have changed maps the fields of earlier versions to the current ones.
        fields = getattr(cls, "upgraded_fields", dict)(fields)
        declared: Any = dataclasses.fields(cls) if hasattr(cls, "__dataclass_fields__") else ()
        fields = {f.name: f.default for f in declared if f.default is not dataclasses.MISSING} | fields
        if _is_named_tuple(cls):
            x = tuple.__new__(cls, map(fields.get, cls._fields))
        else:
            x = object.__new__(cls)
            vars(x).update(fields)  # without setters or descriptors of the class
        try:
            names = _field_names(x)
        except AttributeError as error:  # the fields of constraints and transforms are known only if all are set
            names = [*fields, str(error.name)]
        absent, unknown = [n for n in names if n not in fields], [n for n in fields if n not in names]
        if absent or unknown:
            raise ValueError(
                f"{self.source} does not fit the class {cls.__module__}.{cls.__qualname__}, whose fields have changed "
                f"since: missing from the file are {absent}, unknown to the class are {unknown}."
            )
        return x


def _is_data_class(cls: Any) -> bool:
    """Whether the fields of an instance determine it."""
    return isinstance(cls, type) and (
        (dataclasses.is_dataclass(cls) and cls.__dictoffset__ != 0)  # not classes with slots
        or _is_named_tuple(cls)
        or issubclass(cls, Distribution | Constraint | Transform)
    )


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _field_names(x: Any) -> list[str]:
    """The fields of an instance of a data class, including static ones."""
    if _is_named_tuple(type(x)):
        return list(x._fields)
    if isinstance(x, Distribution):
        names = {
            *x.gather_pytree_data_fields(),
            *x.gather_pytree_aux_fields(),
            "_support",
        }  # Levy does not declare _support
        return sorted(
            n for n in names if n in vars(x) or not hasattr(type(x), n)
        )  # the other fields are attributes of the class
    if isinstance(x, Constraint | Transform):
        _, (names, others) = x.tree_flatten()
        return [*names, *others]
    return [f.name for f in dataclasses.fields(x)]


def _import_name(x: Any) -> str | None:
    """The most public name by which x can be imported, as "module:name"; None if there is none."""
    parts = (getattr(x, "__module__", None) or "").split(".")
    for module in (*PUBLIC, *(".".join(parts[: n + 1]) for n in range(len(parts)))):
        members = dict(vars(sys.modules[module])) if module in sys.modules else {}
        own = getattr(x, "__name__", "")  # constraints have none
        if module == "pushforward" and own:
            members[own] = getattr(sys.modules[module], own, None)  # public names may not be imported yet
        for name in (own, *members):
            if members.get(name) is x:
                return f"{module}:{name}"
    return None


def _is_harmless(found: Any, module: str) -> bool:
    """Whether a file may use an attribute of a module in PACKAGES, which may have imported it from elsewhere."""
    return _within(getattr(found, "__module__", None) or module, PACKAGES) and (
        isinstance(found, (Constraint, *COMPILED))
        or _is_data_class(found)
        or (isinstance(found, type) and issubclass(found, SCALARS))
        or isinstance(getattr(found, "dtype", None), np.dtype)  # such as jnp.float32
        or (isinstance(found, types.FunctionType) and _within(module, FUNCTIONS))
    )


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
