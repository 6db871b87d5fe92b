"""Classes whose instances are determined by their fields."""

import dataclasses
from typing import Any

from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform


def is_data_class(cls: Any) -> bool:
    """Whether the fields of an instance determine it.

    Args:
        cls: any object.
    """
    return isinstance(cls, type) and (
        (dataclasses.is_dataclass(cls) and cls.__dictoffset__ != 0)  # not classes with slots
        or is_named_tuple(cls)
        or issubclass(cls, Distribution | Constraint | Transform)
    )


def is_named_tuple(cls: type) -> bool:
    """Whether a class is a named tuple.

    Args:
        cls: the class.
    """
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def field_names(x: Any) -> list[str]:
    """The fields of an instance of a data class, including static ones.

    Args:
        x: the instance.
    """
    if is_named_tuple(type(x)):
        return list(x._fields)
    if isinstance(x, Distribution):
        # Levy does not declare _support.
        names = {*x.gather_pytree_data_fields(), *x.gather_pytree_aux_fields(), "_support"}
        # The other fields are attributes of the class.
        return sorted(n for n in names if n in vars(x) or not hasattr(type(x), n))
    if isinstance(x, Constraint | Transform):
        _, (names, others) = x.tree_flatten()
        return [*names, *others]
    return [f.name for f in dataclasses.fields(x)]
