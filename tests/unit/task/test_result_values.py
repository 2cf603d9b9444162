"""The result on the Ranges tab: short, and as text."""

from __future__ import annotations

from burla_provider.task.result_values import result_part, total_values


def test_numbers_have_separators_and_nested_values_are_json() -> None:
    result = {"row_count": 1_000_000, "total": "518936906.13", "by_day": {"mon": 1}, "ok": True, "complete": False}
    part = result_part(total_values(result), len(result) - 1, complete=False)
    assert part["values"] == [
        ["row_count", "1,000,000"],
        ["total", "518936906.13"],
        ["by_day", '{"mon": 1}'],
        ["ok", "true"],
    ]
    assert (part["complete"], part["more"]) == (False, 0)


def test_long_values_and_many_values_are_cut() -> None:
    part = result_part(((f"key {number}", "x" * 1000) for number in range(100)), 100, complete=True)
    assert len(part["values"]) == 40
    assert part["more"] == 60
    assert part["values"][0] == ["key 0", "x" * 197 + "..."]
