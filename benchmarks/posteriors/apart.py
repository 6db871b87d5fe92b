"""The command line of benchmarks that make each fit in a process of its own."""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def parse_options(
    description: str | None, cases: list[str], methods: list[str], default_methods: list[str], seeds: list[int]
) -> argparse.Namespace:
    """The options of the command line.

    Args:
        description: what the command does.
        cases: the names of all posteriors, which are the default.
        methods: the names of all methods.
        default_methods: those of the default.
        seeds: the default seeds.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=cases, choices=cases, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds, metavar="SEED")
    parser.add_argument("--methods", nargs="+", default=default_methods, choices=methods, metavar="NAME")
    parser.add_argument("--data", help="the folder of the data")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    parser.add_argument("--here", type=float, metavar="SECONDS", help="print one fit as JSON, made in this process")
    return parser.parse_args()


def measure_apart(module: str, name: str, method: str, seed: int, folder: Path, allowance: float) -> dict:
    """One fit by a benchmark's module, in a process of its own: what it prints as JSON, or its error."""
    arguments = ["--only", name, "--methods", method, "--seeds", str(seed), "--here", str(allowance)]
    return run_apart(module, ["--data", str(folder), *arguments])


def run_apart(module: str, arguments: list[str], seconds: float | None = None) -> dict:
    """What a module prints as JSON in its last line, in a process of its own.

    If the process fails, its error is added by the name "error" to what it printed before.

    Args:
        module: the module.
        arguments: its arguments.
        seconds: the time after which the process is ended; None for no limit.
    """
    before = os.getloadavg()[0]
    try:
        done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        return last_json(expired.stdout) | {"error": f"no result after {seconds} seconds"}
    if done.returncode == -signal.SIGXCPU:
        return last_json(done.stdout) | {"error": "the limit of CPU time was reached"}
    if done.returncode:
        # JAX says more after the error itself.
        lines = done.stderr.decode().strip().splitlines()
        said = [line for line in lines if "Error" in line] or lines
        error = said[-1] if said else f"the process ended with status {done.returncode}"
        return last_json(done.stdout) | {"error": error}
    return last_json(done.stdout) | {
        "load": [before, os.getloadavg()[0]],
        "date": datetime.date.today().isoformat(),
    }


def last_json(printed: bytes | None) -> dict:
    """The last line of a process that is JSON; empty if there is none."""
    lines = [line for line in (printed or b"").decode().splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}
