"""The options for several devices and several processes, of commands that fit."""

import argparse
from typing import Any

from rich.console import Console

from pushforward.cli.terminal import UserError, whole_number


def add_devices(command: argparse.ArgumentParser, what: str) -> None:
    """Add the options.

    Args:
        command: the parser of the command.
        what: what the devices share.
    """
    add = command.add_argument
    add("--devices", metavar="N", help=f"how many devices share the {what} of each step: a number, or all")
    add(
        "--distributed", action="store_true",
        help="this is one of several processes, which all run this command on all their devices; the first writes the "
        "files. By default SLURM, Open MPI or the TPU pod says which process this is",
    )  # fmt: skip
    add("--coordinator", metavar="HOST:PORT", help="the address of the first process (JAX_COORDINATOR_ADDRESS)")
    add("--processes", type=whole_number, metavar="N", help="the number of processes (JAX_NUM_PROCESSES)")
    add("--process", type=whole_number, metavar="I", help="the index of this process, from 0 (JAX_PROCESS_ID)")


def connect(options: argparse.Namespace, console: Console) -> None:
    """Connect with the other processes, before any other use of JAX; only the first one prints results.

    Args:
        options: the parsed arguments.
        console: the console of the command.

    Raises:
        UserError: if the options do not fit together, or the other processes cannot be reached.
    """
    given = [name for name in ("coordinator", "processes", "process") if getattr(options, name) is not None]
    if not options.distributed:
        if given:
            raise UserError(f"--{given[0]} is for several processes: add --distributed.")
        return
    if options.devices not in (None, "all"):
        raise UserError(f"--distributed uses all devices of all processes, but --devices is {options.devices}.")
    import jax

    from pushforward.training.processes import start

    try:
        start(options.coordinator, options.processes, options.process)
    except (ValueError, RuntimeError) as error:
        text = str(error).splitlines()[0]
        raise UserError(f"--distributed: {text} Give --coordinator, --processes and --process.") from error
    if jax.process_index() > 0:
        console.quiet, options.quiet, options.json = True, True, False


def mesh(options: argparse.Namespace) -> Any:
    """The mesh of the devices; None for one device.

    Args:
        options: the parsed arguments.

    Raises:
        UserError: if there are not as many devices.
    """
    devices = "all" if options.distributed else options.devices
    if devices is None:
        return None
    import jax

    available = jax.devices()
    if devices != "all" and not (devices.isdecimal() and 1 <= int(devices) <= len(available)):
        raise UserError(f"--devices must be all, or a number from 1 to {len(available)}, but is {devices}.")
    return jax.sharding.Mesh(available if devices == "all" else available[: int(devices)], "devices")


def writes(options: argparse.Namespace) -> bool:
    """Whether this process writes the files.

    Args:
        options: the parsed arguments.
    """
    from pushforward.training.processes import writes_files  # imports JAX, which takes a while

    return writes_files(mesh(options))
