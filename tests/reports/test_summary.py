"""Tables of numbers that print well."""

import numpy as np
import pytest

from pushforward.reports.summary import MAX_ROWS, Facts, summarize, text_table


def test_numbers_and_text():
    values = np.arange(101.0)
    summary = summarize({"theta[2]": values, "long name": -values}, ["4 chains"], "good")
    row = summary["theta[2]"]
    assert row == (50.0, pytest.approx(values.std()), 5.0, 50.0, 95.0)
    assert (row.mean, row.q05, row.q95) == (50.0, 5.0, 95.0)
    lines = str(summary).splitlines()
    assert lines[0].split() == ["mean", "sd", "5%", "median", "95%"]
    assert lines[1].split() == ["theta[2]", "50", "29.15", "5", "50", "95"] and lines[-1] == "verdict: good; 4 chains"
    assert len({len(line) for line in lines[:-1]}) == 1
    assert "<td>theta[2]<td>50" in summary._repr_html_()
    assert str(summary.without_verdict()).splitlines() == [*lines[:-1], "4 chains"]


def test_many_rows_are_cut():
    summary = summarize({f"x[{i}]": np.zeros(3) for i in range(MAX_ROWS + 7)})
    assert len(summary) == MAX_ROWS + 7 and str(summary).splitlines()[-1] == "and 7 more"


def test_facts():
    facts = Facts({"steps": 100, "seconds": 1.23456})
    assert facts["seconds"] == 1.23456 and str(facts).splitlines() == ["steps    100", "seconds  1.235"]
    assert "<td>seconds<td>1.235" in facts._repr_html_()


def test_cells_are_aligned():
    rows = [("a", "1.0", "long"), ("name", "10.0", "")]
    assert text_table(rows).splitlines() == ["a     1.0   long", "name  10.0"]
    assert text_table(rows, ("", "x", "y")).splitlines() == ["         x     y", "a      1.0  long", "name  10.0"]
    assert text_table([]) == ""
