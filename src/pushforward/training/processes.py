"""Several processes of one fit (`jax.distributed`): they must agree about everything, and one of them writes files.

Every process makes the same calls with the same arguments, and computes its own part of each step. What decides how a
fit goes on is what process 0 has found, because other machines have other rounding errors.
"""

import json
import os
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from pushforward.serialization.file import from_bytes, to_bytes

T = TypeVar("T")
# The least number of bytes that are exchanged at a time.
MIN_BYTES = 4096
MAX_SHOWN = 100


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether the devices of a mesh belong to several processes.

    Args:
        mesh: the mesh, or None.
    """
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def writes_files(mesh: Mesh | None) -> bool:
    """Whether this process writes the files of a fit. The first of several processes does.

    Args:
        mesh: the mesh of the fit, or None.
    """
    return not spans_processes(mesh) or jax.process_index() == 0


def of_first(tree: T, mesh: Mesh | None) -> T:
    """What process 0 has, in all processes.

    Args:
        tree: a pytree that can be saved; the other processes' may have other arrays.
        mesh: the mesh of the fit, or None.
    """
    if not spans_processes(mesh):
        return tree
    return from_bytes(_broadcast(to_bytes(tree) if jax.process_index() == 0 else b""))


def bytes_of_first(content: bytes | None, mesh: Mesh | None) -> bytes | None:
    """The bytes that process 0 has, or None, in all processes.

    Args:
        content: the bytes of this process, or None.
        mesh: the mesh of the fit, or None.
    """
    if not spans_processes(mesh):
        return content
    sent = _broadcast(b"" if content is None else b"1" + content)
    return sent[1:] if sent else None


def in_any(value: int, mesh: Mesh | None) -> int:
    """The largest of a number of each process.

    Args:
        value: the number of this process.
        mesh: the mesh of the fit, or None.
    """
    return int(multihost_utils.process_allgather(np.int32(value)).max()) if spans_processes(mesh) else value


def check_agreement(facts: dict[str, Any], mesh: Mesh | None) -> None:
    """Raise, in all processes, unless they make the same fit.

    Args:
        facts: what identifies the fit, by name.
        mesh: the mesh of the fit, or None.

    Raises:
        ValueError: if a fact differs; the message names each with its values.
    """
    if not spans_processes(mesh):
        return
    each = [json.loads(text) for text in _gather(json.dumps(facts, default=str).encode())]
    differ = []
    for name in dict.fromkeys(name for found in each for name in found):
        values = [json.dumps(found.get(name)) for found in each]
        if len(set(values)) > 1:
            differ.append(f"{name} ({_described(values)})")
    if differ:
        raise ValueError(
            f"the processes disagree, but all must make the same call with the same data: {'; '.join(differ)}."
        )


def _described(values: list[str]) -> str:
    other = next(i for i, value in enumerate(values) if value != values[0])
    return ", ".join(f"process {i}: {_shortened(values[i])}" for i in (0, other))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _broadcast(content: bytes) -> bytes:
    """The bytes of process 0."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    return np.asarray(multihost_utils.broadcast_one_to_all(_padded(content, size))).tobytes()[:size]


def _gather(content: bytes) -> list[bytes]:
    """The bytes of each process."""
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(content))))
    rows = np.asarray(multihost_utils.process_allgather(_padded(content, int(sizes.max()))))
    return [row.tobytes()[:size] for row, size in zip(rows, sizes, strict=True)]


def _padded(content: bytes, size: int) -> np.ndarray:
    """Bytes as an array whose size is a power of two, because each size is compiled."""
    return np.frombuffer(content.ljust(max(MIN_BYTES, 1 << (size - 1).bit_length()), b"\0"), np.uint8)


def start(coordinator: str | None = None, num_processes: int | None = None, process: int | None = None) -> None:
    """Connect this process with the other processes of its run; call it before any other use of JAX.

    What is not given comes from the environment: from the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, or from SLURM, Open MPI, Kubernetes or a TPU pod, which JAX knows.

    Args:
        coordinator: the address of process 0, as host:port.
        num_processes: the number of processes.
        process: the index of this process, from 0.

    Raises:
        ValueError: if something is missing, or is no number.
        RuntimeError: if the other processes cannot be reached.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    num_processes = _from_environment(num_processes, "JAX_NUM_PROCESSES")
    process = _from_environment(process, "JAX_PROCESS_ID")
    if num_processes is not None and process is not None and not 0 <= process < num_processes:
        raise ValueError(f"the index of this process must be from 0 to {num_processes - 1}, but is {process}.")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"the coordinator's address must be host:port, but is {coordinator!r}.")
    # Only with it do processes exchange numbers on CPUs; other devices do not use it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, num_processes, process)
    except ValueError as error:
        raise ValueError(
            "the coordinator's address, the number of processes and the index of this process are needed, but the "
            f"environment does not give all of them: {error}"
        ) from error


def _from_environment(value: int | None, name: str) -> int | None:
    text = os.environ.get(name)
    if value is not None or text is None:
        return value
    if not text.isdecimal():
        raise ValueError(f"the variable {name} must be a whole number, but is {text!r}.")
    return int(text)
