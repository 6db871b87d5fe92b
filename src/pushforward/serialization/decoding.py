"""Trees from their descriptions."""

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pushforward.serialization.archive import Archive
from pushforward.serialization.classes import field_names, is_data_class, is_named_tuple
from pushforward.serialization.names import Refused, resolve, shown


class Decoder:
    """Rebuilds a tree from its description.

    Args:
        archive: the archive of the description.
        trusted: the modules and packages that the file may use in addition; None for all.

    Attributes:
        narrowed: whether 64-bit arrays became 32-bit arrays.
    """

    def __init__(self, archive: Archive, trusted: Sequence[str] | None):
        self.archive, self.trusted = archive, trusted
        self.narrowed = False
        self._arrays: dict[str, tuple[tuple, Any]] = {}

    def decode(self, node: Any) -> Any:
        """The tree with a description.

        Args:
            node: the description.
        """
        match node:
            case None | bool() | int() | float() | str():
                return node
            case list():
                # In place, because a copy would double the memory.
                for i, item in enumerate(node):
                    node[i] = self.decode(item)
                return node
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
                return self._array(kind, index, node)
            case {"kind": "name", "name": name}:
                return resolve(name, self.trusted)
            case {"kind": "object", "class": "pushforward.bijections.constant:Constant", "fields": fields}:
                return self._constant(fields)
            case {"kind": "object", "class": name, "fields": fields}:
                return self._build(resolve(name, self.trusted), {n: self.decode(value) for n, value in fields.items()})
        kind = node.get("kind") if isinstance(node, dict) else node
        raise Refused(f"holds a value that this version cannot read: {shown(repr(kind))}.")

    def _constant(self, fields: dict[str, Any]) -> Any:
        """A `Constant` of version 0.1, which stored numbers as integers with the same bits, separate from the tree."""
        dtypes, others = self.decode(fields["dtypes"]), self.decode(fields["others"])

        def leaf(i: int) -> Any:
            node = fields["arrays"]["items"][i]
            if node is None or dtypes[i] is None:
                return others[i] if node is None else self.decode(node)
            return self._array("bits", node["array"], {"dtype": np.dtype(dtypes[i]).str})

        # The leaves of the structure are the indices of the arrays.
        tree = jax.tree.map(leaf, self.decode(fields["structure"]["tree"]))
        return resolve("pushforward.bijections.arrays:Constant", self.trusted)(tree)

    def _array(self, kind: str, index: str, node: dict[str, str]) -> Any:
        """An array; every use of a name is the same object, so that it takes memory once."""
        description = (kind, node.get("dtype"), node.get("impl"))
        if index not in self._arrays:
            self._arrays[index] = description, self._new_array(index, *description)
        known, array = self._arrays[index]
        if known != description:
            raise Refused(f"describes the array {shown(index)} in two ways.")
        return array

    def _new_array(self, index: str, kind: str, dtype: str | None, impl: str | None) -> Any:
        array = self.archive.array(index)
        if dtype is not None:
            array = array.view(np.dtype(dtype))
        if kind == "key":
            return jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
        if kind in ("numpy", "scalar"):
            return array if kind == "numpy" else array[()]
        strong = jnp.asarray(array)
        self.narrowed |= strong.dtype != array.dtype
        # Weakly typed arrays, made from Python numbers, take the dtypes of other arrays.
        return jnp.full(array.shape, array.dtype.type(0).item()).at[...].set(strong) if kind == "weak" else strong

    def _build(self, cls: Any, fields: dict[str, Any]) -> Any:
        """An instance with these fields, made without the constructor; missing fields take their defaults."""
        if not is_data_class(cls):
            raise Refused(f"holds an instance of {cls}, which is not a data class.")
        # A class whose fields have changed maps the fields of earlier versions to the current ones.
        fields = getattr(cls, "upgraded_fields", dict)(fields)
        declared: Any = dataclasses.fields(cls) if hasattr(cls, "__dataclass_fields__") else ()
        fields = {f.name: f.default for f in declared if f.default is not dataclasses.MISSING} | fields
        if is_named_tuple(cls):
            x = tuple.__new__(cls, map(fields.get, cls._fields))
        else:
            x = object.__new__(cls)
            vars(x).update(fields)  # without setters or descriptors of the class
        try:
            names = field_names(x)
        except AttributeError as error:  # the fields of constraints and transforms are known only if all are set
            names = [*fields, str(error.name)]
        absent, unknown = [n for n in names if n not in fields], [n for n in fields if n not in names]
        if absent or unknown:
            raise Refused(
                f"does not fit the class {cls.__module__}.{cls.__qualname__}, whose fields have changed since: missing "
                f"from the file are {shown(str(absent))}, unknown to the class are {shown(str(unknown))}."
            )
        return x
