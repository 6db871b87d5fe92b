"""Check the arguments of public functions by their annotations, so that errors name the argument at fault.

The annotation of a parameter says which values it takes, and `checked` enforces it: numbers, counts, random keys,
arrays, functions, paths, instances of classes, sequences of them, and trees of arrays. What an annotation cannot say,
such as which shapes agree, each function checks itself.
"""

import dataclasses
import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import AbstractArray, PRNGKeyArray, PyTree

from pushforward.masked import has_masked

F = TypeVar("F", bound=Callable)

# The text of a value in a message is cut at this length.
MAX_TEXT = 60


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers that an argument takes.

    Args:
        least: the smallest number.
        largest: the largest number.
        open: whether the ends are excluded.
    """

    least: float = -math.inf
    largest: float = math.inf
    open: bool = False

    def __contains__(self, value: Any) -> bool:
        inside = self.least < value < self.largest if self.open else self.least <= value <= self.largest
        # An integer may be too large for a float.
        return bool(inside) and abs(value) < math.inf

    def __str__(self) -> str:
        if self.largest < math.inf:
            ends = f"between {self.least:,} and {self.largest:,}"
            return f"{ends}, both excluded" if self.open else ends
        if self.least == -math.inf:
            return "that is finite"
        return f"{'above' if self.open else 'of at least'} {self.least:g} that is finite"


# The sizes of arrays have 32 bits in JAX, without 64-bit mode.
MAX_COUNT = 2**31 - 1
COUNT, FROM_ZERO = Range(1, MAX_COUNT), Range(0, MAX_COUNT)
NUMBER, POSITIVE, NOT_NEGATIVE = Range(), Range(0, open=True), Range(0)

# The range of a number, or None for an argument that the function checks itself.
Rule = Range | None


def checked(eager: bool = False, **rules: Rule) -> Callable[[F], F]:
    """Decorate a function so that it checks its arguments by their annotations.

    Whole numbers are 1 or more and other numbers are finite, unless a rule says otherwise.

    Args:
        eager: whether the function needs concrete values, so that it cannot run inside `jax.jit` or `jax.vmap`.
        rules: for some arguments, the range of the number, or None if the function checks the argument itself.

    Returns:
        The decorator. The function raises a TypeError for a value of another type, and a ValueError for a number
        outside of the range.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        owner = function.__qualname__.removesuffix(".__init__")
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        annotations = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.kind not in variadic and rules.get(name, "") is not None
        }

        @functools.wraps(function)
        def check_and_call(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{owner}: {error}.") from None
            if eager:
                _check_concrete(owner, given)
            for name in annotations.keys() & given.keys():
                check(name, given[name], annotations[name], owner=owner, rule=rules.get(name))
            return function(*args, **kwargs)

        return check_and_call  # pyright: ignore[reportReturnType]

    return decorate


def check_fields(instance: Any, **rules: Rule) -> None:
    """Check the fields of an instance of a dataclass by their annotations, as `checked` does.

    Args:
        instance: the instance.
        rules: as those of `checked`.
    """
    for field in dataclasses.fields(instance):
        if field.init and rules.get(field.name, "") is not None:
            value, owner = getattr(instance, field.name), type(instance).__name__
            check(field.name, value, field.type, owner=owner, rule=rules.get(field.name))


def check(name: str, value: Any, annotation: Any, *, owner: str, rule: Rule = None) -> None:
    """Raise unless a value is what an annotation says.

    Args:
        name: the name of the argument.
        value: its value.
        annotation: the annotation of the parameter.
        owner: the name of the function or class.
        rule: as those of `checked`.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a number outside of the range, or an option that does not exist.
    """
    members = _members(annotation)
    if any(map(_says_nothing, members)):
        return
    if any(map(_is_tree, members)):
        _check_arrays(name, value, owner)
        return
    allowed = rule if isinstance(rule, Range) else COUNT if int in members else NUMBER
    message = f"{name} must be {_expected(members, allowed)}, but is {in_words(value)}, in {owner}."
    empty_path = os.PathLike in members and isinstance(value, str) and not value
    if empty_path or not any(_is_of(value, member) for member in _alternatives(members)):
        options = [
            option for member in members if typing.get_origin(member) is Literal for option in typing.get_args(member)
        ]
        raise (ValueError if type(value) in map(type, options) else TypeError)(message)
    if _is_number(value) and not _arrays(members) and value not in allowed:
        raise ValueError(message)
    if isinstance(value, Sequence) and not isinstance(value, str) and not _arrays(members):
        for member in members:
            _check_entries(name, value, member, owner, rule)


def in_words(value: Any) -> str:
    """A value, in the words of a message.

    Args:
        value: any value.
    """
    if inspect.isclass(value):
        return f"the class {value.__name__} instead of an instance of it"
    if isinstance(value, jax.Array | np.ndarray) and value.shape:
        masked = ", some of whose entries are masked" if np.ma.is_masked(value) else ""
        return f"an array of {value.dtype} of shape {value.shape}{masked}"
    if isinstance(value, Tracer):
        return f"a traced value of {value.dtype}, as inside jax.jit"
    if isinstance(value, str | Real | complex | Sequence | None):
        text = repr(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
    return f"{_article(type(value).__name__)} {type(value).__name__}"


def is_key(value: Any) -> bool:
    """Whether a value is one random key.

    Args:
        value: any value.
    """
    if not isinstance(value, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.shape == ()
    return value.dtype == np.uint32 and value.shape in ((2,), (4,))


def holds_real_numbers(value: Any) -> bool:
    """Whether a value is an array of real numbers, or becomes one; none of them may be masked.

    Args:
        value: any value.
    """
    if isinstance(value, bool | Real):
        return True
    if has_masked(value):
        return False
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        dtype = value.dtype
        real = jnp.issubdtype(dtype, jnp.number) and not jnp.issubdtype(dtype, jnp.complexfloating)
        return bool(real or jnp.issubdtype(dtype, jnp.bool_))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        try:
            return holds_real_numbers(np.asarray(value))
        except (TypeError, ValueError):
            # Ragged, or traced.
            return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    return hasattr(value, "__array__") and not inspect.isclass(value)


def _check_concrete(owner: str, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"{owner} needs concrete values, but its argument {name} is traced: call it outside of jax.jit, "
                "jax.vmap and jax.grad."
            )


def _check_arrays(name: str, value: Any, owner: str) -> None:
    """Raise unless a value is a pytree of arrays of numbers, with one or more of them."""
    leaves = jax.tree.leaves_with_path(value)
    if not leaves:
        raise TypeError(f"{name} must be a pytree of arrays of numbers, but is {in_words(value)}, in {owner}.")
    for path, leaf in leaves:
        if not (holds_real_numbers(leaf) or jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.complexfloating)):
            place = f"{name}{jax.tree_util.keystr(path)}"
            raise TypeError(f"{place} must be an array of numbers, but is {in_words(leaf)}, in {owner}.")


def _check_entries(name: str, value: Sequence, member: Any, owner: str, rule: Rule) -> None:
    kinds = typing.get_args(member)
    if typing.get_origin(member) not in (tuple, Sequence, Collection) or not kinds:
        return
    if typing.get_origin(member) is tuple and kinds[-1] is not Ellipsis:
        if len(value) != len(kinds):
            raise ValueError(f"{name} must have {len(kinds)} entries, but is {in_words(value)}, in {owner}.")
    else:
        kinds = (kinds[0],) * len(value)
    for index, (entry, kind) in enumerate(zip(value, kinds, strict=True)):
        check(f"{name}[{index}]", entry, kind, owner=owner, rule=rule)


def _members(annotation: Any) -> tuple:
    """The members of a union, or the annotation alone."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


_KEYS = _members(PRNGKeyArray)


def _says_nothing(member: Any) -> bool:
    """Whether a member of an annotation allows anything, as far as can be seen here."""
    return member in (Any, object, inspect.Parameter.empty, PyTree) or isinstance(member, str | TypeVar)


def _is_tree(member: Any) -> bool:
    """Whether a member of an annotation is a pytree of arrays, such as `PyTree[ArrayLike]`."""
    return inspect.isclass(member) and issubclass(member, PyTree)


def _is_array(member: Any) -> bool:
    if member in _KEYS:
        return False
    return inspect.isclass(member) and (member in (jax.Array, np.ndarray) or issubclass(member, AbstractArray))


def _arrays(members: tuple) -> bool:
    return any(map(_is_array, members))


def _alternatives(members: tuple) -> list:
    """The members, where arrays stand also for the numbers and sequences that become arrays."""
    if not _arrays(members):
        return list(members)
    return [m for m in members if _is_array(m) or not _becomes_array(m)]


def _becomes_array(member: Any) -> bool:
    kind = typing.get_origin(member) or member
    return kind in (bool, int, float, complex, np.bool, np.number, Sequence) or getattr(kind, "_is_protocol", False)


def _is_of(value: Any, member: Any) -> bool:
    """Whether a value is of the type that a member of an annotation names."""
    kind = typing.get_origin(member) or member
    if member in _KEYS:
        return is_key(value)
    if _is_array(member):
        return holds_real_numbers(value)
    if kind is Literal:
        return any(type(value) is type(option) and value == option for option in typing.get_args(member))
    if kind is Callable:
        return callable(value) and not inspect.isclass(value)
    if kind in (tuple, Sequence, Collection):
        named = isinstance(value, str | bytes | Mapping)
        return (
            isinstance(value, Sequence | np.ndarray | jax.Array | Collection)
            and not named
            and getattr(value, "ndim", 1) != 0
        )
    if kind is bool:
        return isinstance(value, bool | np.bool)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return _is_number(value) or (isinstance(value, Tracer) and value.shape == ())
    return inspect.isclass(kind) and isinstance(value, kind)


def _is_number(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray) and not isinstance(value, Tracer):
        return value.shape == () and holds_real_numbers(value) and not jnp.issubdtype(value.dtype, jnp.bool_)
    return isinstance(value, Real) and not isinstance(value, bool | np.bool)


def _expected(members: tuple, allowed: Range) -> str:
    """What an annotation allows, in words."""
    words = []
    for member in _alternatives(members):
        kind, options = typing.get_origin(member) or member, typing.get_args(member)
        names = {bool: "True or False", int: f"a whole number {allowed}", float: f"a number {allowed}", str: "a string"}
        names |= {Callable: "a function", type(None): "None", os.PathLike: "a path", Mapping: "a dict", dict: "a dict"}
        if member in _KEYS:
            words.append("a random key, such as jax.random.key(0)")
        elif _is_array(member):
            words.append("an array of real numbers")
        elif kind is Literal:
            words += map(repr, options)
        elif kind in (tuple, Sequence, Collection):
            words.append("a sequence")
        else:
            words.append(names.get(kind) or f"{_article(kind.__name__)} {kind.__name__}")
    return " or ".join(dict.fromkeys(words))


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOUaeiou" else "a"
