"""Damage, edit and forge files of `pushforward.save` at random: does loading stay safe?

Each case is one of the kinds in KINDS, applied to one of the files of `seeds`. Loading it must give the same tree as
before, or raise a `ValueError` that names the file. Everything else is a fault: another exception, a tree that differs
although the file has a digest, much memory, a long time, an imported module, or a crash. Forged documents, whose digest
is right or which have none, may load as other trees.

A worker process takes the cases in turn. If it crashes or hangs, its last case is a fault, and another worker goes on.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

# Of one load: seconds, and bytes beyond a multiple of the file's size (JAX compiles programs for some arrays).
SECONDS = 20.0
MULTIPLE, MEMORY = 20, 150_000_000
FAULTS = ("other exception", "path not named", "silently different", "memory", "slow", "imported", "crash or hang")
NAMES = (
    "os:system", "builtins:eval", "builtins:object", "numpy:ndarray", "numpy:load", "numpy.f2py.__main__:main",
    "numpy:f2py", "jax.experimental.pallas:x", "numpyro.contrib.funsor:enum", "optax.contrib:sam", "antigravity:x",
    "pushforward.cli:main", "pushforward.sklearn:FlowDensity", "pushforward:Flow", "pushforward:Posterior",
    "pushforward.density.result:Density",
    "numpyro.distributions:Normal", "numpyro.distributions:Independent", "numpyro.distributions:MixtureSameFamily",
    "numpyro.distributions.transforms:ComposeTransform", "numpyro.distributions.constraints:interval", "jax.nn:silu",
    "numpyro.distributions.constraints:real", "pushforward.bijections.constant:Constant", "pushforward:Target",
    ":", "", "a:b:c",
    "pushforward.posterior.result:TracePoint", "pushforward.posterior.amortized:_density_data",
    "optax:ScaleByAdamState", "pushforward.training.checkpoint:FitState", "equinox.nn:MLP",
    "pushforward.bijections:Chain",
)  # fmt: skip
# A file may use these, so that their modules may be imported.
OWN_NAMES = tuple(
    name for name in NAMES if name.startswith("pushforward") and "cli" not in name and "sklearn" not in name
)
DTYPES = ("O", "V0", "V1000000000", "f8", "bfloat16", "int4", "U5", "<M8[ns]", "i4,f4", "(1000000,1000)f8", "x", "")
NO_DIGEST = " without digest"
VALUES = (
    None, True, 0, -1, 10**30, 1e308, float("nan"), "", "x" * 50, "\x1b[31m", [], {}, [[]],
    {"kind": "tuple", "items": 5},
    {"kind": "numpy", "array": "0"}, {"kind": "jax", "array": "0"}, {"kind": "weak", "array": "1"}, {"kind": "dtype"},
    {"kind": "key", "array": "0", "impl": "rbg"}, {"kind": "float", "value": "nan"}, {"kind": "complex", "value": "j"},
    {"kind": "structure", "tree": [1, {"kind": "dict", "items": [[1, 2]]}]}, {"kind": "pickle", "data": "gASV"},
    {"kind": "dict", "items": [[[], 1]]}, {"kind": "OrderedDict", "items": [[1]]},
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """Files of several kinds, with and without a digest."""
    import jax.numpy as jnp
    import jax.random as jr
    import numpy as np
    import numpyro.distributions as dist
    import optax

    import pushforward as pf
    from pushforward.serialization import to_bytes
    from pushforward.training import Evaluation, History, checkpoint

    key = jr.key(0)
    flow = pf.flows.nsf(2, key=key, num_layers=1, hidden=(4,))
    target = pf.Target(lambda x: -0.5 * jnp.sum(x["a"] ** 2), {"a": jnp.zeros(2)}).detached()
    evaluation = Evaluation("flow", 0, 4, 0.1, 1.0, 1.0, 1.0, 0, {})
    history = History(np.zeros(4, np.float32), (evaluation, evaluation))
    finished = checkpoint.FinishedStage([jnp.ones(2)], 0.5, 3, 4, 2, "plateau")
    state = checkpoint.FitState((finished,), [jnp.ones(2), jr.key(1)], history, 1.0, False)
    base = dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(1))
    trees = {
        "flow": flow,
        "posterior": {"target": target, "history": history},
        "checkpoint": {"kind": checkpoint.KIND, "facts": {"precision": "float32"}, "state": state},
        "density": pf.Density.of(pf.Flow(base, flow.bijection)),
        "tree": {
            "arrays": [np.arange(5), jnp.ones((2, 3), "bfloat16"), jnp.asarray(2.0), np.array(["a", "b"]), jr.key(1)],
            "values": (None, True, 1.5, float("inf"), 1 + 2j, "text", np.float32(1), np.dtype("i4"), jnp.tanh),
            "state": optax.adam(1e-3).init({"a": jnp.ones(3)}),
            "supports": [dist.constraints.interval(0.0, 1.0), dist.transforms.AffineTransform(0.0, 2.0)],
        },
    }
    found = {name: to_bytes(tree) for name, tree in trees.items()}
    return found | {f"{name}{NO_DIGEST}": rewritten(data, digest="drop") for name, data in found.items()}


def parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def rewritten(data: bytes, change=lambda document, content: None, digest: str = "keep", **options) -> bytes:
    """The file with a changed document; its digest is kept, dropped or made right."""
    from pushforward.serialization import DOCUMENT, archive

    content = parts(data)
    document = json.loads(content.pop(DOCUMENT))
    old = document.pop("digest", None)
    change(document, content)
    if digest == "drop" or old is None:
        return packed(content | {DOCUMENT: json.dumps(document).encode()}, **options)
    text = json.dumps({"digest": archive.NO_DIGEST} | document)
    new = archive.digest_of(content, text) if digest == "forge" else old
    return packed(content | {DOCUMENT: text.replace(archive.NO_DIGEST, new, 1).encode()}, **options)


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[rng.randrange(len(data)) :]


def splice(data: bytes, rng: random.Random) -> bytes:
    a, b, c = (rng.randrange(len(data)) for _ in range(3))
    block = data[min(a, b) : max(a, b)] if rng.random() < 0.5 else rng.randbytes(rng.choice([1, 4, 100]))
    return data[:c] + block + data[c + rng.choice([0, len(block)]) :]


def directory(data: bytes, rng: random.Random) -> bytes:
    """Change fields of the zip file's headers: signatures, flags, methods, sizes, offsets, lengths of names."""
    changed = bytearray(data)
    places = [i for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for i in range(len(data)) if data.startswith(mark, i)]
    for _ in range(rng.choice([1, 1, 3])):
        place, size = rng.choice(places) + rng.randrange(4, 46, 2), rng.choice([2, 4])
        changed[place : place + size] = rng.choice(
            [b"\0" * size, b"\xff" * size, b"\1" + b"\0" * (size - 1), rng.randbytes(size)]
        )
    return bytes(changed)


def headers(data: bytes, rng: random.Random) -> bytes:
    """Change the header of an array, and make all checksums right."""
    content = parts(data)
    name = rng.choice([name for name in content if name.endswith(".npy")])
    array = content[name]
    shape = rng.choice(
        [b"(10000000000,)", b"(0, 99999999999999999999)", b"(-1,)", b"'a'", b"(1,)*9", b"(((((((", b"{}"]
    )
    content[name] = rng.choice(
        [
            array.replace(b"'shape': (", b"'shape': " + shape + b" #(", 1),
            array.replace(b"'<f8'", rng.choice([b"'|O'", b"'<U9'", b"'|V0'", b"'<c8'", b"[('a','<f8')]", b"None"]), 1),
            array.replace(b"False", rng.choice([b"True", b"None", b"1**9"]), 1),
            array[:6] + bytes([rng.randrange(256), rng.randrange(256)]) + array[8:],
            array[:8] + rng.randbytes(2) + array[10:],
            array[: rng.randrange(len(array))],
            array + rng.randbytes(8),
        ]
    )
    return packed(content)


def nodes(tree) -> list:
    """All lists and dicts in a document."""
    found, stack = [], [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, (dict, list)):
            found.append(node)
            stack.extend(node.values() if isinstance(node, dict) else node)
    return found


def change_document(document, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 5])):
        everything = nodes(document)
        node = rng.choice(everything)
        if not node:
            continue
        place = rng.choice([*node]) if isinstance(node, dict) else rng.randrange(len(node))
        action = rng.randrange(6)
        if action == 0:
            del node[place]
        elif action == 1:
            node[place] = rng.choice(VALUES)
        elif action == 2:  # never a parent of the place
            node[place] = json.loads(json.dumps(rng.choice(everything)))
        elif action == 3:
            named = [n for n in everything if isinstance(n, dict) and ("class" in n or "name" in n)]
            if named:
                chosen = rng.choice(named)
                chosen["class" if "class" in chosen else "name"] = rng.choice(NAMES)
        elif action == 4:
            arrays = [n for n in everything if isinstance(n, dict) and "array" in n]
            if arrays:
                rng.choice(arrays).update(
                    rng.choice([
                        {"array": str(rng.randrange(9))}, {"dtype": rng.choice(DTYPES)}, {"array": None},
                        {"kind": rng.choice(["jax", "weak", "key", "numpy", "scalar"])},
                    ])
                )  # fmt: skip
        elif isinstance(node, dict):
            node[rng.choice(["kind", "items", "fields", "class", "__class__", "value"])] = node.pop(place)


def edit(data: bytes, rng: random.Random) -> bytes:
    return rewritten(data, lambda document, _: change_document(document["tree"], rng), digest="keep")


def forge(data: bytes, rng: random.Random) -> bytes:
    whole = rng.random() < 0.1
    change = lambda document, _: change_document(document if whole else document["tree"], rng)  # noqa: E731
    return rewritten(data, change, digest=rng.choice(["forge", "drop"]))


def bomb(data: bytes, rng: random.Random) -> bytes:
    """Small files that ask for much: deep, wide or repeated content, and compression."""
    kind = rng.randrange(6)
    many, depth = rng.choice([1000, 20_000]), rng.choice([100, 400])

    def change(document, content):
        tree = document["tree"]
        if kind == 0:
            array = {"kind": rng.choice(["numpy", "jax", "weak", "scalar"]), "array": "big"}
            document["tree"], content["big.npy"] = [array] * many, array_file(rng.choice([10, 100_000]))
        elif kind == 1:
            for _ in range(depth):
                tree = rng.choice([[tree], {"kind": "tuple", "items": [tree]}, {"kind": "structure", "tree": tree}])
            document["tree"] = tree
        elif kind == 2:
            document["tree"] = rng.choice([[[]] * many, [{"kind": "tuple", "items": []}] * many, ["x" * many]])
        elif kind == 3:
            document["tree"] = {"kind": "dict", "items": [[i, [i]] for i in range(many)]}
        elif kind == 4:
            document["tree"], content["big.npy"] = {"kind": "numpy", "array": "big"}, array_file(5_000_000)
        else:
            content.update({f"{i}.npy": array_file(1000) for i in range(1000)})

    compression = zipfile.ZIP_DEFLATED if kind == 4 or rng.random() < 0.1 else zipfile.ZIP_STORED
    return rewritten(data, change, digest=rng.choice(["forge", "drop"]), compression=compression)


def array_file(size: int) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.zeros(size))
    return file.getvalue()


KINDS = {f.__name__: f for f in (flip, truncate, splice, directory, headers, edit, forge, bomb)}
# A file without a digest cannot show that its document was edited; the content of forged ones is the forger's.
NOTICED = ("flip", "truncate", "splice", "directory", "headers", "edit")


def peak() -> int:
    """The largest memory of this process since `reset_peak`, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:  # not on Linux: the largest ever, so only the first case above the bound is found
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def outcome(path: Path, kind: str, original: bytes, data: bytes, whole: bytes) -> str:
    """Load one case, and say what happened; `whole` is the undamaged file with a digest."""
    from pushforward.serialization import load, to_bytes

    path.write_bytes(data)
    reset_peak()
    before, modules, began, problem = peak(), {*sys.modules}, time.perf_counter(), None
    loaded = None
    try:
        loaded = load(path)
    except ValueError as error:
        found = "ValueError"
        if not str(error).startswith(str(path)):
            problem = f"path not named: {error}"
    except Exception as error:
        problem = f"other exception: {type(error).__name__}: {error}"
        found = "other exception"
    else:
        found = "loaded"
    seconds, memory = time.perf_counter() - began, peak() - before
    if found == "loaded":
        same = False
        # Forged objects need not be such that they can be saved, and those of bombs may have one array 20,000 times.
        with contextlib.suppress(Exception):
            same = kind != "bomb" and to_bytes(loaded) == whole
        found = "identical" if same else "different"
        if not same and kind in NOTICED and original == whole:
            problem = "silently different"
    foreign = {name.partition(":")[0] for name in NAMES if name not in OWN_NAMES} & ({*sys.modules} - modules)
    if memory > MULTIPLE * len(data) + MEMORY:
        problem = f"memory: {memory / 1e6:.0f} MB for a file of {len(data) / 1e6:.2f} MB"
    if seconds > SECONDS:
        problem = f"slow: {seconds:.1f} s"
    if foreign:
        problem = f"imported: {sorted(foreign)}"
    return f"fault: {problem}" if problem else found


def case(seed: int, files: dict[str, bytes]) -> tuple[str, str, bytes, bytes]:
    """The case of a seed: its kind, the name of its file, the file, and what became of it."""
    rng = random.Random(seed)
    kind, name = rng.choice([*KINDS]), rng.choice([*files])
    return kind, name, files[name], KINDS[kind](files[name], rng)


def work(first: int, step: int) -> None:
    """Take cases until the parent ends this process; print a line before and after each."""
    warnings.simplefilter("ignore")
    files = seeds()
    import optax.contrib  # noqa: F401  (what some cases name is loaded by our own imports or not at all)

    with tempfile.TemporaryDirectory() as folder:
        seed = first
        while True:
            print(json.dumps({"seed": seed}), flush=True)
            kind, name, original, data = case(seed, files)
            whole = files[name.removesuffix(NO_DIGEST)]
            found = outcome(Path(folder) / "case", kind, original, data, whole)
            print(json.dumps({"kind": kind, "file": name, "outcome": found}), flush=True)
            seed += step


def run(seconds: float, first: int) -> int:
    """Run workers for some time, print the counts, and return the exit code."""
    counts, faults = collections.Counter(), []
    seed, end = first, time.monotonic() + seconds
    while time.monotonic() < end:
        env = os.environ | {"JAX_PLATFORMS": "cpu"}
        command = [sys.executable, __file__, "--worker", str(seed)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
        os.set_blocking(worker.stdout.fileno(), False)
        text, done, heard = b"", True, time.monotonic()
        while time.monotonic() < end and worker.poll() is None and time.monotonic() - heard < 6 * SECONDS:
            time.sleep(0.05)
            new = worker.stdout.read() or b""
            heard = time.monotonic() if new else heard
            *lines, text = (text + new).split(b"\n")
            for line in map(json.loads, lines):
                if "seed" in line:
                    seed, done = line["seed"], False
                    continue
                done = True
                found = line["outcome"]
                if found.startswith("fault"):
                    faults.append(f"seed {seed}, {line['kind']} of {line['file']}: {found}")
                    print(faults[-1], flush=True)
                    found = found.split(":")[1].strip()
                counts[line["kind"], found] += 1
        if time.monotonic() < end and not done:
            faults.append(f"seed {seed}: crash or hang, exit code {worker.poll()}")
            print(faults[-1], flush=True)
            counts["?", "crash or hang"] += 1
        worker.kill()
        worker.wait()
        seed += 1
    outcomes = [
        "identical",
        "different",
        "ValueError",
        *(fault for fault in FAULTS if any(fault == f for _, f in counts)),
    ]
    print(f"{'':12}" + "".join(f"{found:>20}" for found in outcomes))
    for kind in [*KINDS, *({"?"} & {kind for kind, _ in counts})]:
        print(f"{kind:12}" + "".join(f"{counts[kind, found]:>20,}" for found in outcomes))
    total = counts.total()
    print(f"{total:,} cases from seed {first} on, {len(faults)} faults")
    return int(bool(faults) or total == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to go on (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first case (default 0)")
    parser.add_argument("--only", type=int, metavar="SEED", help="one case, in this process, with its traceback")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker, 1)
    if options.only is not None:
        from pushforward.serialization import load

        kind, name, _, data = case(options.only, seeds())
        print(f"{kind} of {name}, {len(data):,} bytes", flush=True)
        load(io.BytesIO(data))
        return 0
    return run(options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
