"""The command line of the experiments: measure what is missing, or show what has been measured."""

import argparse
from collections.abc import Callable


def command(
    doc: str | None, measure: Callable[[], None], table: Callable[[], None], figure: Callable[[], None]
) -> None:
    """Call the functions that the flags name; without flags, `measure`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the tables of what has been measured")
    parser.add_argument("--figure", action="store_true", help="draw the figures of what has been measured")
    options = parser.parse_args()
    if options.table:
        table()
    if options.figure:
        figure()
    if not (options.table or options.figure):
        measure()
