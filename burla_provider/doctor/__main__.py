"""``python -m burla_provider.doctor``: check the connections from Airflow to the workers, before the first job.

Each step gets one line: what was found, or the error and what to do about it. If a step fails, those that need it are
skipped, and the others are still checked. No line contains a secret.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from burla_provider.database.errors import advice_for
from burla_provider.database.redact import redact
from burla_provider.exceptions import BurlaProviderError
from burla_provider.worker.outcome import join_sentences

if TYPE_CHECKING:
    from burla_provider.doctor.checks import Check, Checks, Step

_PRIVILEGES = ("INSERT", "UPDATE", "DELETE")
_MARKS = {"ok": "✓", "failed": "✗", "skipped": "-"}
_PLAIN_MARKS = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}
_CONNECT_SECONDS = "10"


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    :returns: the exit status: 0 if no check failed, else 1.
    """
    options = _parse(arguments)
    # As `airflow connections test` does: use connections in Airflow's database too, and show no log.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    logging.disable(logging.CRITICAL)
    # Otherwise libpq waits for minutes for an address that does not answer.
    os.environ.setdefault("PGCONNECT_TIMEOUT", _CONNECT_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = run_checks(options)
    finally:
        logging.disable(logging.NOTSET)
    if results["failed"]:
        _show(f"\n{results['failed']} of {results.total()} checks failed, {results['skipped']} skipped.")
        return 1
    _show(f"\nAll {results.total()} checks passed.")
    return 0


def run_checks(options: argparse.Namespace) -> Counter[str]:
    """Run all checks, print a line for each, and count the results: "ok", "failed" and "skipped"."""
    # Airflow, which takes seconds to load, logs while it does.
    from burla_provider.doctor.checks import STEPS, Checks

    steps = [step for step in STEPS if step.option is None or getattr(options, step.option) is not None]
    titles = {step.check: step.title.format(**vars(options)) for step in steps}
    width = max(map(len, titles.values()))
    broken: dict[Check, str] = {}
    results: Counter[str] = Counter()
    with ExitStack() as stack:
        checks = Checks(options, stack)
        for step in steps:
            cause = next((broken[check] for check in step.needs if check in broken), None)
            result, text = _check(checks, step) if cause is None else ("skipped", f"needs {cause}")
            if result != "ok":
                broken[step.check] = cause or titles[step.check]
            if text is not None:
                results[result] += 1
                _show(f"{_mark(result)} {titles[step.check]:<{width}}  {text}")
    return results


def _check(checks: Checks, step: Step) -> tuple[str, str | None]:
    text: str | None
    try:
        result, text = "ok", step.check(checks)
    except BurlaProviderError as error:
        result, text = "failed", " ".join(str(error).split())
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        result, text = "failed", join_sentences(first_line, advice_for(error), *notes, step.remedy)
    for secrets in checks.secrets:
        text = text and redact(text, secrets)
    return result, text


def _mark(result: str) -> str:
    try:
        "".join(_MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_MARKS[result]
    return _MARKS[result]


def _show(line: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "replace").decode(encoding), flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m burla_provider.doctor", description="Check the connections from Airflow to the workers."
    )
    parser.add_argument("--postgres-conn-id", default="postgres_default", help="connection to the database")
    parser.add_argument("--burla-conn-id", default="burla_default", help="connection to the cluster")
    parser.add_argument("--table", help="check that the role can read this table")
    parser.add_argument(
        "--write",
        nargs="*",
        choices=_PRIVILEGES,
        help="check that it also has these privileges on the table, or all of them if none is named",
    )
    parser.add_argument(
        "--requirements", nargs="+", default=[], metavar="PACKAGE", help="packages that your function needs on workers"
    )
    parser.add_argument("--grow", action="store_true", help="boot a node if none is free, as grow=True does")
    options = parser.parse_args(arguments)
    if options.write is not None and options.table is None:
        parser.error("--write needs --table")
    if options.write == []:
        options.write = _PRIVILEGES
    return options


if __name__ == "__main__":
    sys.exit(main())
