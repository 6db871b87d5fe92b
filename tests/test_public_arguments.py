"""Every public function and method refuses bad arguments, with an error that names the argument.

The calls are generated from the signatures and annotations, so that a new public function is tested too.
"""

import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
from jaxtyping import AbstractArray, PRNGKeyArray, PyTree

import pushforward as pf

# Values of many kinds, and which of them each kind of annotation takes; the others are bad.
VALUES = {
    "None": None,
    "object": object(),
    "text": "nonsense",
    "no text": "",
    "bytes": b"bytes",
    "number": 3,
    "negative": -1,
    "fraction": 2.5,
    "nan": math.nan,
    "truth": True,
    "complex": 1j,
    "empty": [],
    "set": {1},
    "class": dict,
    "vector": np.zeros(2),
    "words": np.array(["a"]),
}
TAKEN: dict[Any, set[str]] = {
    types.NoneType: {"None"},
    int: {"number"},
    float: {"number", "fraction", "negative"},  # which numbers are in the range is another question
    bool: {"truth"},
    str: {"text", "no text"},
    Callable: set(),
    Literal: set(),
    Mapping: set(),
    dict: set(),
    Sequence: {"empty", "vector", "words", "set"},
    "array": {"number", "negative", "fraction", "nan", "truth", "empty", "vector"},
    "arrays": {"number", "negative", "fraction", "nan", "truth", "complex", "vector"},
    "key": set(),
    os.PathLike: set(),
    "instance": set(),
}
GOOD = {
    "anything": object(), types.NoneType: None, int: 200, float: 0.5, bool: True, str: "text", Callable: print,
    Mapping: {}, dict: {}, Sequence: [], "array": np.zeros(2), "arrays": np.zeros(2),
    "key": jr.key(0), os.PathLike: "text",
}  # fmt: skip
ANYTHING = (Any, object, inspect.Parameter.empty, PyTree)
# What users write subclasses with, or what the library calls.
HOOKS = {
    "as_saved", "upgraded_fields", "detached", "tree_flatten", "tree_unflatten", "loss", "evaluate", "from_draws",
    "forward_batch", "inverse_batch", "push_score_batch", "conditional", "checked_condition", "stored_draws",
}  # fmt: skip
# What functions check themselves, with messages that know more; other tests show these.
OWN_CHECKS = {
    "fit_posterior": {"budget", "flow", "mesh", "target"},
    "fit_amortized": {"flow", "mesh", "target"},
    "fit_density": set(inspect.signature(pf.fit_density).parameters),
    "fit_vae": {"mesh", "objective"},
    "train": {"mesh"},
    "assess": {"flow", "target"},
    "load": {"path"},
    "diagnose": {"draws", "log_weights"},
}


def public_functions():
    """The name and the function of each public function, constructor and method."""
    for name in dir(pf):
        value = getattr(pf, name)
        if name == "flows":
            yield from ((f"flows.{n}", f) for n, f in vars(value).items() if inspect.isfunction(f) and n[0] != "_")
        elif inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for member, attribute in vars(value).items():
                attribute = getattr(attribute, "__func__", attribute)
                public = member == "__init__" or member[0] != "_" and member not in HOOKS
                if public and inspect.isroutine(attribute) and written_by_us(attribute):
                    yield f"{name}.{member}", attribute


def written_by_us(function):
    """Not so are the constructors of data classes, which fits call."""
    return inspect.unwrap(function).__code__.co_filename.startswith(os.path.dirname(pf.__file__))


def members(annotation):
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def kinds(annotation):
    """The kinds of values that an annotation allows."""
    for member in members(annotation):
        kind = typing.get_origin(member) or member
        if member in ANYTHING or isinstance(member, str | typing.TypeVar):
            yield "anything"
        elif inspect.isclass(member) and issubclass(member, PyTree):
            yield "arrays"
        elif member in typing.get_args(PRNGKeyArray):
            yield "key"
        elif kind in (jax.Array, np.ndarray) or (inspect.isclass(kind) and issubclass(kind, AbstractArray)):
            yield "array"
        elif kind in (tuple, Sequence, Collection, list):
            yield Sequence
        else:
            yield kind if kind in TAKEN else "instance"


def parameters():
    """Each function with each of its parameters whose annotation says what it takes."""
    for name, function in public_functions():
        for parameter in inspect.signature(function).parameters.values():
            allowed = set(kinds(parameter.annotation))
            known = is_named(parameter) and "anything" not in allowed
            if known and parameter.name not in OWN_CHECKS.get(name, ()):
                yield pytest.param(function, parameter, allowed, id=f"{name}-{parameter.name}")


def is_named(parameter):
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def bad_values(parameter, allowed):
    """The values that no kind takes."""
    taken = set().union(*(TAKEN[kind] for kind in allowed))
    if os.PathLike in typing.get_args(parameter.annotation):
        taken -= {"no text"}
    return {name: value for name, value in VALUES.items() if name not in taken}


def good_value(parameter):
    """A value that is of an allowed kind, but useless: the call must not get as far as to use it."""
    for kind in kinds(parameter.annotation):
        if kind == "instance":
            return instance_of(next(m for m in members(parameter.annotation) if inspect.isclass(m)))
        if kind in GOOD:
            return GOOD[kind]
    raise AssertionError(f"no value for {parameter}")


def instance_of(cls):
    """An instance without a constructor's call; of an abstract class, of a subclass of it."""
    concrete = type(cls.__name__, (cls,), {})
    concrete.__abstractmethods__ = frozenset()
    return object.__new__(concrete)


@pytest.fixture(autouse=True)
def as_for_users():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("function", "parameter", "allowed"), list(parameters()))
def test_bad_arguments(function, parameter, allowed):
    required = [p for p in inspect.signature(function).parameters.values() if is_named(p) and p.default is p.empty]
    good = {other.name: good_value(other) for other in required}
    for kind, value in bad_values(parameter, allowed).items():
        with pytest.raises((TypeError, ValueError)) as error:
            call(function, good | {parameter.name: value})
        message = str(error.value)
        assert re.match(rf"{parameter.name} must be .*, but is .*, in .*\.$", message), f"{kind}: {message}"


TARGET = pf.Target(lambda u: -(u**2).sum(), np.zeros(2))
CONDITIONAL = pf.ConditionalTarget(lambda u, x: -(u**2).sum() - (x**2).sum(), np.zeros(2), np.zeros(2))
FLOW = pf.flows.linear(2, key=jr.key(0))
# Arguments that take values of many types, so that the functions check them; and what else is bad.
MANY_TYPES = {
    "structure": (lambda v: pf.fit_posterior(TARGET, key=jr.key(0), structure=v), [np.zeros((2, 2, 2))]),
    "draws": (lambda v: pf.fit_posterior(TARGET, key=jr.key(0), draws=v), []),
    "example": (lambda v: pf.Target(lambda u: 0.0, v), [{"a": "b"}]),
    "support": (lambda v: pf.Target(lambda u: 0.0, np.zeros(2), v), []),
    "draw": (TARGET.unconstrain, [{"a": np.zeros(2)}]),
    "data": (lambda v: pf.fit_amortized(CONDITIONAL, v, key=jr.key(0)), [{"a": np.zeros(2)}]),
    "source": (pf.rosenblatt, []),
    "model": (lambda v: pf.train(v, pf.ForwardKL(np.zeros((9, 2))), key=jr.key(0)), [np.zeros(3), {"a": np.zeros(2)}]),
    "tree": (lambda v: pf.save("unused", v), []),
}  # fmt: skip
ALLOWED = {
    "structure": {"None"}, "draws": {"None"}, "example": {"number", "negative", "fraction", "truth", "vector"},
    "support": {"None", "no text"}, "draw": TAKEN["arrays"], "tree": set(VALUES) - {"object", "bytes", "set"},
    "source": {"class", "empty"}, "data": {"text", "no text"},
}  # fmt: skip


@pytest.mark.parametrize("name", MANY_TYPES)
def test_bad_values_where_many_types_are_allowed(name):
    function, more = MANY_TYPES[name]
    values = {kind: value for kind, value in VALUES.items() if kind not in ALLOWED.get(name, ())}
    for value in [*values.values(), *more]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
            function(value)


def call(function, given):
    alone = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_ONLY]
    return function(*(given.pop(name) for name in alone if name in given), **given)


def test_all_public_functions_are_found():
    names = {name for name, _ in public_functions()}
    assert {"fit_posterior", "flows.nsf", "Flow.sample", "Target.from_numpyro", "Posterior.resample", "load"} <= names
    assert len(names) > 80
