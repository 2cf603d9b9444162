from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from burla_provider.demo.__main__ import main, report
from burla_provider.demo.orders import Totals

ROOT = Path(__file__).parents[3]
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


def test_three_lines_say_what_to_do_next(capsys):
    report(OURS, Totals(2, Decimal("0.30")))
    lines = capsys.readouterr().out.splitlines()
    steps = lines[lines.index("Next:") + 1 : -2]
    assert [step.split("  ")[1] for step in steps] == [
        "make airflow",
        "make cluster && make demo ENGINE=burla",
        "docs/get-started/local.md",
    ]


def test_the_next_steps_exist():
    targets = (ROOT / "Makefile").read_text()
    assert "\nairflow:" in targets
    assert "\ncluster:" in targets
    assert (ROOT / "docs" / "get-started" / "local.md").exists()


def test_without_a_makefile_the_next_steps_are_python_commands(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("burla_provider.__file__", str(tmp_path / "burla_provider" / "__init__.py"))
    report(OURS, Totals(2, Decimal("0.30")))
    output = capsys.readouterr().out
    assert "  python -m burla_provider.demo --serve " in output
    assert "make" not in output


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


def test_a_directory_that_cannot_be_created_is_named(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert main(["--directory", str(tmp_path / "file")]) == 1
    output = capsys.readouterr().out
    assert "Not a directory" in output
    assert output.endswith(f"All files of the demo are in {tmp_path / 'file'}. --directory chooses another one.\n")


def test_the_servers_of_the_user_are_not_meant(monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setattr("burla_provider.demo.__main__._demo", lambda _: int("PGSSLMODE" in os.environ))
    assert main([]) == 0


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), psycopg.errors.DiskFull("no space left")])
def test_a_full_disk_is_an_error_without_a_traceback(capsys, monkeypatch, tmp_path, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("burla_provider.demo.__main__._demo", fail)
    assert main(["--directory", str(tmp_path)]) == 1
    assert f"\n{error}\nAll files of the demo are in {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("rows", ["-1", "many", "1e6", ""])
def test_an_invalid_number_of_rows_is_refused(capsys, rows):
    with pytest.raises(SystemExit):
        main([f"--rows={rows}"])
    assert "must be a number of rows" in capsys.readouterr().err
