"""The command line that experiments share: measure what is missing, or show what is there."""

import argparse
from collections.abc import Callable


def command(
    doc: str | None, measure: Callable[[], None], table: Callable[[], None], figure: Callable[[], None]
) -> None:
    """Call what the flags ask for, and `measure` without any."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--figure", action="store_true", help="draw what is there")
    options = parser.parse_args()
    if options.table:
        table()
    if options.figure:
        figure()
    if not (options.table or options.figure):
        measure()
