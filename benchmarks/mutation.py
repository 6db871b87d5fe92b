"""Mutation testing: do the tests notice small changes of the source?

A mutant is the source with one operator, number, condition or decorator changed, by the operators of cosmic-ray. Places
of the source are drawn at random, and at each of them one of its changes; annotations are left out. The tests that
mirror the mutant's module run first; if they pass, all tests of its folder. A mutant that both pass has survived, and
its change is printed, to be read: it is a gap of the tests, or no fault (a tuning constant, or code that means the
same). Mutants are made in copies of the source. Results are kept, so that a run goes on where the last one ended.
"""

import argparse
import collections
import concurrent.futures
import difflib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "mutation.json"
PLACES = ("bijections", "posterior/verdict/diagnostics.py", "training")
# A mutant that loops forever is killed, too.
SECONDS = 900
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no")


def mutants(path: Path) -> Iterator[tuple[tuple[int, int], str, int]]:
    """The place, the operator and the operator's occurrence of each mutant of a file."""
    tree = get_ast_from_path(path)
    for name in plugins.operator_names():
        operator = plugins.get_operator(name)
        if operator.arguments():
            continue
        places = ((node, start) for node in ast_nodes(tree) for start, _ in operator().mutation_positions(node))
        for occurrence, (node, start) in enumerate(places):
            if not is_annotation(node):
                yield start, name, occurrence


def is_annotation(node) -> bool:
    while node.parent is not None:
        child, node = node, node.parent
        if node.type in ("tfpdef", "annassign") and child is node.children[1]:
            return True
        if node.type == "funcdef" and child is node.annotation:
            return True
    return False


def draw(files: list[Path], num: int, seed: int) -> list[tuple[Path, str, int]]:
    """Mutants at random places, one at each."""
    generator = random.Random(seed)
    places = collections.defaultdict(list)
    for path in files:
        for start, name, occurrence in mutants(path):
            places[path, start].append((path, name, occurrence))
    print(f"{sum(map(len, places.values())):,} mutants at {len(places):,} places of {len(files)} files")
    return [generator.choice(places[place]) for place in generator.sample(sorted(places), min(num, len(places)))]


def tests_of(path: Path) -> list[Path]:
    """The tests that mirror a module, if it has some, and those of its folder."""
    inside = path.relative_to(ROOT / "src/pushforward")
    mirror = ROOT / "tests" / inside.with_name(f"test_{inside.name}")
    return [*([mirror] if mirror.exists() else []), ROOT / "tests" / inside.parent]


def passes(tests: Path, source: Path) -> bool:
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, str(tests)]
    try:
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    # 5: there are no tests.
    return run.returncode in (0, 5)


def judge(mutant: tuple[Path, str, int], known: dict[str, dict]) -> dict:
    """What became of a mutant; `known` are earlier results by their changes."""
    path, name, occurrence = mutant
    before = path.read_text()
    after = mutate_code(before, plugins.get_operator(name)(), occurrence)
    file = str(path.relative_to(ROOT / "src/pushforward"))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), file, file, lineterm="", n=0)
    change = "\n".join(itertools.islice(lines, 1, None))
    if change in known:
        return known[change]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        (source / path.relative_to(ROOT / "src")).write_text(after)
        survived = all(passes(tests, source) for tests in tests_of(path))
    return {"change": change, "survived": survived, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", default=PLACES, help="files and folders of src/pushforward")
    parser.add_argument("--num", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of mutants")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at the same time")
    arguments = parser.parse_args()

    places = [ROOT / "src/pushforward" / place for place in arguments.places]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    known = {row["change"]: row for row in (json.loads(RESULTS.read_text()) if RESULTS.exists() else [])}
    rows = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        chosen = draw(files, arguments.num, arguments.seed)
        for future in concurrent.futures.as_completed([pool.submit(judge, mutant, known) for mutant in chosen]):
            row = future.result()
            rows.append(row)
            known[row["change"]] = row
            RESULTS.write_text(json.dumps(list(known.values()), indent=1) + "\n")
            if row["survived"]:
                print(f"\nsurvived:\n{row['change']}", flush=True)
    killed = sum(not row["survived"] for row in rows)
    print(f"\nkilled {killed} of {len(rows)} ({killed / len(rows):.0%})")


if __name__ == "__main__":
    main()
