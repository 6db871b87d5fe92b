"""Tables in text files, shared by the tests of tables and of the command line."""

NAMES = ["size", "count", "wind", "noise"]


def write(path, values, names=NAMES, separator=","):
    lines = [separator.join(names)] if names else []
    path.write_text("\n".join([*lines, *(separator.join(map(repr, row)) for row in values.tolist())]) + "\n")
