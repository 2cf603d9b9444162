from __future__ import annotations

import json
from decimal import Decimal

import pytest

from burla_provider.demo.__main__ import main, report
from burla_provider.demo.orders import Totals

OURS = {"row_count": 2, "total_amount": "0.30", "ranges": 1, "seconds": 1.26}


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_equal_totals_are_exact_and_a_success(capsys):
    assert report(OURS, Totals(2, Decimal("0.30"))) == 0
    assert last_line(capsys) == {
        "row_count": 2,
        "total_amount": "0.30",
        "sql_total_amount": "0.30",
        "exact": True,
        "ranges": 1,
        "seconds": 1.3,
    }


@pytest.mark.parametrize("theirs", [Totals(2, Decimal("0.31")), Totals(3, Decimal("0.30")), Totals(0, Decimal(0))])
def test_different_totals_are_a_failure(capsys, theirs):
    assert report(OURS, theirs) == 1
    assert last_line(capsys)["exact"] is False


def test_the_totals_of_no_rows_are_equal(capsys):
    assert report({**OURS, "row_count": 0, "total_amount": "0"}, Totals(0, Decimal(0))) == 0
    assert last_line(capsys)["total_amount"] == "0"


def test_without_a_cluster_the_error_says_how_to_start_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BURLA_CLUSTER_STATE", str(tmp_path))
    assert main(["--engine", "burla"]) == 1
    assert "make cluster" in capsys.readouterr().out


@pytest.mark.parametrize("rows", ["-1", "many", "1e6", ""])
def test_an_invalid_number_of_rows_is_refused(capsys, rows):
    with pytest.raises(SystemExit):
        main([f"--rows={rows}"])
    assert "must be a number of rows" in capsys.readouterr().err
