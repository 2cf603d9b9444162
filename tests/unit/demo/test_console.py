from __future__ import annotations

from decimal import Decimal

from burla_provider.demo.console import TaskLog, compare_totals, relevant_text


def test_records_of_operators_are_shown():
    record = {"logger": "airflow.task.operators.burla_provider", "event": "::group::Plan\n10 ranges\n::endgroup::"}
    assert relevant_text(record) == "Plan\n10 ranges"


def test_prints_of_tasks_are_shown():
    assert relevant_text({"printed": "1,000 orders"}) == "1,000 orders"


def test_exceptions_are_shown():
    record = {"logger": "task", "event": "failed", "exception": [{"exc_type": "ValueError", "exc_value": "no"}]}
    assert relevant_text(record) == "ValueError: no"


def test_other_records_of_airflow_are_not_shown():
    assert relevant_text({"logger": "airflow.models.dagrun", "event": "Created dag run."}) == ""
    assert relevant_text({"logger": "airflow.task.operators.x", "event": "::endgroup::"}) == ""


def test_totals_are_compared_to_the_last_digit(capsys):
    assert compare_totals([("total", Decimal("0.30"), Decimal("0.3"))])
    assert not compare_totals([("total", Decimal("0.30"), Decimal("0.3000000000000000000001"))])
    assert "DIFFERENT" in capsys.readouterr().out


def test_the_time_is_shown_when_it_changes(capsys):
    TaskLog().show({"printed": "Plan\n10 ranges"})
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" s | Plan")
    assert second.strip() == "| 10 ranges"
