from __future__ import annotations

from decimal import Decimal

from burla_provider.demo.console import TaskLog, compare_totals, relevant_text


def test_what_an_operator_says_is_worth_reading():
    record = {"logger": "airflow.task.operators.burla_provider", "event": "::group::Plan\n10 ranges\n::endgroup::"}
    assert relevant_text(record) == "Plan\n10 ranges"


def test_what_a_task_prints_is_worth_reading():
    assert relevant_text({"printed": "1,000 orders"}) == "1,000 orders"


def test_an_exception_is_worth_reading():
    record = {"logger": "task", "event": "failed", "exception": [{"exc_type": "ValueError", "exc_value": "no"}]}
    assert relevant_text(record) == "ValueError: no"


def test_housekeeping_is_not():
    assert relevant_text({"logger": "airflow.models.dagrun", "event": "Created dag run."}) == ""
    assert relevant_text({"logger": "airflow.task.operators.x", "event": "::endgroup::"}) == ""


def test_totals_are_compared_to_the_last_digit(capsys):
    assert compare_totals([("total", Decimal("0.30"), Decimal("0.3"))])
    assert not compare_totals([("total", Decimal("0.30"), Decimal("0.3000000000000000000001"))])
    assert "DIFFERENT" in capsys.readouterr().out


def test_the_time_is_shown_where_it_changes(capsys):
    TaskLog().show({"printed": "Plan\n10 ranges"})
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" s | Plan")
    assert second.strip() == "| 10 ranges"
