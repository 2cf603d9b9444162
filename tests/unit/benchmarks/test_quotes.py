"""The figures that README and the documentation quote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quotes import ROOT, ROWS, SENTENCES, read_figures, update, update_sentence, update_table, write

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
REPORT = """
## All orders

| side | seconds | correct |
|---|---:|---|
| one | 2.00 | yes |
| two | 1.00 | yes |
| three | | left out |

## Other orders
"""


@pytest.mark.parametrize("name", SENTENCES)
def test_quoted_figures_were_measured(name: str) -> None:
    text = (ROOT / name).read_text()
    figures, report = read_figures(BENCHMARKS / "results"), (BENCHMARKS / "RESULTS.md").read_text()
    assert update(name, text, figures, report) == text, "run `python -m benchmarks report`"


def test_figures_of_a_smaller_table_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sides.json").write_text('{"rows": 5}')
    before = [(ROOT / name).read_text() for name in SENTENCES]
    write(tmp_path)
    assert [(ROOT / name).read_text() for name in SENTENCES] == before
    assert "do not get the figures of 5 rows" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "expected"), [(ROWS, {"uuids.sql.auto": 1.5}), (5, {})])
def test_pages_are_quoted_if_the_tables_have_all_rows(rows: int, expected: dict[str, float], tmp_path: Path) -> None:
    point = {"side": "sql", "way": "auto", "job": "totals", "table": "uuids", "seconds": 1.5}
    memory = [point, {"side": "ours_burla", "missing": "there is no cluster"}]
    (tmp_path / "pages.json").write_text(json.dumps({"tables": {"orders": f"orders_{rows}"}, "memory": memory}))
    assert read_figures(tmp_path) == expected


def test_figures_of_a_sentence_are_replaced_and_line_breaks_stay() -> None:
    text = "Before. It took 1.25 s\nand 12 times\nas long. After 3 s."
    sentence = "It took {a:.2f} s and {b/a:.0f} times as long"
    assert update_sentence(text, sentence, {"a": 2, "b": 2000}) == (
        "Before. It took 2.00 s\nand 1000 times\nas long. After 3 s."
    )


def test_figures_that_were_not_measured_stay(capsys: pytest.CaptureFixture[str]) -> None:
    text = "It took 1.25 s."
    assert update_sentence(text, "took {a:.2f} s", {}) == text
    assert "Not measured: 'a'" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["It needs 1 s.", "It took 1 s. It took 2 s."])
def test_a_sentence_that_is_not_there_once_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="instead of once: It took"):
        update_sentence(text, "It took {a:.0f} s", {"a": 3})


def test_a_table_gets_the_measured_rows_in_its_own_columns() -> None:
    page = "# Page\n\n## Totals\n\n| side | correct |\n|---|---|\n| old | no |\n\nText.\n"
    rows = "| one | yes |\n| two | yes |\n"
    assert update_table(page, "Totals", REPORT, "All orders") == page.replace("| old | no |\n", rows)
