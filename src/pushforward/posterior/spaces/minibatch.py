"""PyMC models with `pm.Minibatch`: the rows of the arrays behind it are the rows of a large data set.

A minibatch is a random slice of arrays, which is an operation of the model's graph. The slice becomes an input of the
graph, so that the log-likelihood of any rows can be computed, without the factor of `total_size`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pushforward.posterior.spaces.base import Draw
from pushforward.posterior.spaces.rows import shared


class _Variable(eqx.Module):
    """The log-likelihood of the rows of an observed variable that depends on a minibatch.

    Args:
        log_likelihood: the function from the free variables and slices of the data to its log-likelihood.
        arrays: the arrays of which the slices are made.
        batch_size: the length of the slices, which may be a constant of the graph.
    """

    log_likelihood: Callable = eqx.field(static=True)
    arrays: tuple[Array, ...]
    batch_size: int = eqx.field(static=True)

    @property
    def num_rows(self) -> int:
        """The number of rows of the arrays."""
        return len(self.arrays[0])

    def __call__(self, values: list[Array], rows: Int[Array, " rows"]) -> Float[Array, " rows"]:
        def of_batch(rows):
            found = self.log_likelihood(*values, *(array[rows] for array in self.arrays))[0]
            return found.reshape(self.batch_size, -1).sum(1)

        num = len(rows)
        padded = jnp.resize(rows, (-(-num // self.batch_size), self.batch_size))
        # The model has each row of a batch for several of all rows.
        return jax.vmap(of_batch)(padded).ravel()[:num] * (self.batch_size / self.num_rows)


class MinibatchLikelihood(eqx.Module):
    """The log-likelihood of the rows of all variables that depend on a minibatch.

    Args:
        values: maps a draw to PyMC's unconstrained values of the free variables, on which the log-likelihoods depend.
        variables: the variables.
    """

    values: Callable[[Draw], list[Array]]
    variables: tuple[_Variable, ...]

    @property
    def num_rows(self) -> int:
        """The largest number of rows of a variable."""
        return max(variable.num_rows for variable in self.variables)

    @property
    def batch_size(self) -> int:
        """The largest batch size of a variable."""
        return min(self.num_rows, max(variable.batch_size for variable in self.variables))

    def __call__(self, draw: Draw, rows: Int[Array, " rows"]) -> Float[Array, " rows"]:
        values = self.values(draw)
        total = jnp.zeros(len(rows))
        for variable in self.variables:
            entries, num_rows_of_entry = shared(rows, self.num_rows, variable.num_rows)
            total = total + variable(values, entries) / num_rows_of_entry
        return total


def minibatched(model: Any) -> dict[Any, Any]:
    """The observed variables that depend on a minibatch, and the node of its graph.

    Args:
        model: a PyMC model.

    Raises:
        ValueError: if another variable depends on a minibatch, or an observed one on several; or if the number of rows
            is not the `total_size` of the variable.
    """
    others = {rv.name: rv.owner.inputs for rv in model.free_RVs} | {p.name: [p] for p in model.potentials}
    random = [name for name, variables in others.items() if _nodes(model, variables)]
    if random:
        raise ValueError(
            f"{', '.join(random)} depend on a pm.Minibatch, but only observed variables can: give them all rows, or "
            "use Target(log_prior, example, log_likelihood=..., data=..., batch_size=...)."
        )
    found = {}
    for rv in model.observed_RVs:
        nodes = _nodes(model, [model.rvs_to_values[rv], *rv.owner.inputs])
        if len(nodes) > 1:
            raise ValueError(
                f"the variable {rv.name} depends on {len(nodes)} calls of pm.Minibatch, which choose different rows: "
                "make all of its slices in one call, pm.Minibatch(x, y, batch_size=...)."
            )
        if nodes:
            found[rv] = nodes[0]
            _check_size(rv, nodes[0])
    return found


def _nodes(model: Any, variables: Any) -> list[Any]:
    """The minibatches on which variables depend, also by the values of observed variables."""
    found = ancestors(variables)
    values = [model.rvs_to_values[rv] for rv in model.observed_RVs if rv in set(found)]
    return list(dict.fromkeys(v.owner for v in _slices([*found, *ancestors(values)])))


def _slices(variables: Any) -> list[Any]:
    """Those of some variables that are slices of a minibatch."""
    from pymc.data import MinibatchOp

    return [v for v in variables if v.owner and isinstance(v.owner.op, MinibatchOp)]


def ancestors(variables: Any) -> list[Any]:
    """The variables of a graph on which some variables depend, with these.

    Args:
        variables: the variables.
    """
    try:
        from pytensor.graph.traversal import ancestors
    except ImportError:  # before pytensor 2.32
        from pytensor.graph.basic import ancestors
    return list(ancestors(variables))


def _check_size(rv: Any, node: Any) -> None:
    from pymc.variational.minibatch_rv import MinibatchRandomVariable

    num = len(_arrays(node)[0])
    if not isinstance(rv.owner.op, MinibatchRandomVariable):
        raise ValueError(
            f"the observed variable {rv.name} depends on a pm.Minibatch, but has no total_size: give it the number of "
            f"rows, total_size={num}."
        )
    sizes = [getattr(size, "data", None) for size in rv.owner.inputs[1:]]
    if sizes[0] is None or int(sizes[0]) != num or any(size is not None for size in sizes[1:]):
        given = ", ".join("None" if size is None else str(int(size)) for size in sizes)
        raise ValueError(
            f"the observed variable {rv.name} has the total_size ({given}), but its pm.Minibatch is made of {num} rows "
            f"along the first axis; give total_size={num}."
        )


def _arrays(node: Any) -> list[np.ndarray]:
    return [np.asarray(variable.eval()) for variable in node.inputs[:-1]]


def likelihood(
    model: Any,
    values: Callable[[Draw], list[Array]],
    variables: dict[Any, Any],
    compiled: Callable[[Any, Any], Callable],
) -> MinibatchLikelihood:
    """The log-likelihood of the rows of the variables that depend on a minibatch.

    Args:
        model: a PyMC model.
        values: maps a draw to PyMC's unconstrained values of the free variables.
        variables: the variables and the nodes of their minibatches, as `minibatched` returns them.
        compiled: makes a function of JAX arrays of inputs and outputs.

    Raises:
        ValueError: if the log-likelihood of a variable does not have one number for each row.
    """
    from pytensor.graph.replace import graph_replace

    inputs = [model.rvs_to_values[free] for free in model.free_RVs]
    found = []
    for rv, node in variables.items():
        [term] = model.logp(vars=[rv], sum=False)
        if term.ndim == 0:
            raise ValueError(
                f"the observed variable {rv.name} has one log-likelihood for all of its rows, which cannot be computed "
                "from a part of them: give it all rows instead of a pm.Minibatch."
            )
        slices = [v.type() for v in node.outputs[:-1]]
        # The graph of the density has copies of the node.
        copies = [(v, slices[v.owner.outputs.index(v)]) for v in _slices(ancestors([term]))]
        function = compiled([*inputs, *slices], graph_replace([term], copies, strict=False))
        arrays = tuple(jnp.asarray(array) for array in _arrays(node))
        found.append(_Variable(function, arrays, int(node.outputs[0].shape[0].eval())))
    return MinibatchLikelihood(values, tuple(found))
