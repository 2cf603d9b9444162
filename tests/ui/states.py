"""Every state of a task that the page can show: a report, the task instance, and what the page must say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burla_provider.task.result_values import result_part
from burla_provider.worker.outcome import Failure
from tests.ui.page_server import make_instance
from tests.ui.reports import Try

STATES: dict[str, Callable[[], State]] = {}
"""Name -> function that makes the state."""


@dataclass(frozen=True)
class State:
    """:param says: regular expressions that the text above the sections must match."""

    report: dict[str, Any] | None
    instance: dict[str, Any]
    says: tuple[str, ...]
    earlier: list[Any] = field(default_factory=list)


def state(make: Callable[[], State]) -> Callable[[], State]:
    """Add a state to ``STATES``."""
    STATES[make.__name__.strip("_").replace("_", "-")] = make
    return make


KINDS = (
    Failure(
        "ZeroDivisionError",
        "division by zero",
        traceback='  File "/opt/airflow/dags/nightly.py", line 41, in digest\n'
        "    share = paid / (paid - refunded)\n            ~~~~~^~~~~~~~~~~~~~~~~~~\n",
        rows="id = 312507 (and 3 more rows)",
    ),
    Failure(
        "psycopg.errors.NumericValueOutOfRange",
        'integer out of range\nCONTEXT:  SQL statement "UPDATE totals SET cents = cents + $1"',
        sqlstate="22003",
        traceback='  File "/opt/airflow/dags/nightly.py", line 52, in run\n    connection.execute(UPDATE, [cents])\n',
    ),
    Failure("WorkerError", "A worker process died with exit code 137 while it processed this range."),
    Failure("ValueError", 'row 4687512 is <img src=x onerror="alert(1)">, not an amount', traceback="  no file\n"),
)


def fail_18(of: int = 48) -> dict[int, Failure]:
    """Return 18 failures of 4 kinds. The last kind first occurs late."""
    spread = [index * of // 20 for index in range(1, 19)]
    kinds = [KINDS[0]] * 9 + [KINDS[1]] * 5 + [KINDS[2]] * 3
    mixed = [kinds[index * 7 % 17] for index in range(17)]
    return dict(zip(spread, [*mixed, KINDS[3]], strict=True))


def running(*, until: float = 25, **options: Any) -> Try:
    """Return a try in the middle of its work."""
    run = Try(ago=until + 5.8)
    run.plan()
    run.start()
    run.work(range(48), until=until, **options)
    return run


def done(**options: Any) -> Try:
    """Return a try whose work is done."""
    run = Try(ago=48)
    run.plan()
    run.start()
    run.work(range(48), **options)
    return run


@state
def connecting() -> State:
    return State(Try(ago=2).as_dict(), make_instance("running", start_date=time.time() - 3), ("connecting",))


@state
def planning() -> State:
    run = Try(ago=98)
    run.phase("snapshot", 0.2)
    run.status("planning")
    run.phase("planning", 95.8)
    return State(run.as_dict(), make_instance("running", start_date=time.time() - 99), ("planning", "1 min 3[567] s"))


@state
def waiting_for_a_node() -> State:
    run = Try(ago=130)
    run.plan()
    run.phase("waiting for a node")
    run.status("waiting", "no node has 16 free CPUs: 4 of 4 nodes are busy", until=run.now + 600)
    run.wait(125.7)
    return State(
        run.as_dict(),
        make_instance("running", start_date=time.time() - 131),
        ("waiting for a node", r"4 of 4 nodes are busy", r"\d\d:\d\d"),
    )


@state
def trial() -> State:
    run = Try(30, ago=8)
    run.plan()
    run.start("trial", 3)
    run.work(range(3), until=2.2)
    return State(run.as_dict(), make_instance("running"), ("trial", "3 of 30 ranges"))


@state
def running_() -> State:
    return State(running().as_dict(), make_instance("running"), ("running|processing",))


@state
def after_a_trial() -> State:
    run = Try(30, ago=25)
    run.plan()
    run.start("trial", 3)
    run.work(range(3))
    run.start("rest", 27)
    run.work(range(3, 30), until=11)
    return State(run.as_dict(), make_instance("running"), ("running|processing",))


@state
def hung_range() -> State:
    run = running(until=700, seconds=lambda index: 2.5 if index != 21 else 5000)
    return State(run.as_dict(), make_instance("running", start_date=time.time() - 706), ("range 21", "for 11 min"))


@state
def isolating() -> State:
    run = running()
    run.isolate()
    run.wait(9)
    return State(run.as_dict(), make_instance("running"), ("running|processing",))


@state
def dead_worker() -> State:
    run = running(failures={20: KINDS[2]}, attempts=lambda index: 3 if index == 20 else 1, dead=[20])
    return State(run.as_dict(), make_instance("running"), ("running|processing", "1.* failed"))


def paused_after_40(*, seconds: float) -> Try:
    """Return a try that has been paused for so long. The workers have finished what they had begun."""
    run = Try(ago=30 + seconds)
    run.plan()
    run.start()
    run.work(range(40))
    run.phase("pausing")
    return run


@state
def paused() -> State:
    run = paused_after_40(seconds=340)
    run.status("paused", "SELECT paused FROM job_control WHERE job = 'digest_orders'")
    pause = {"since": run.now, "query": "SELECT paused FROM job_control WHERE job = 'digest_orders'", "seconds": 0}
    run.report.pause = lambda: pause
    run.wait(340)
    return State(
        run.as_dict(),
        make_instance("running", start_date=time.time() - 372),
        ("paused", "SELECT paused FROM job_control"),
    )


@state
def combining() -> State:
    run = done()
    run.status("combining")
    run.phase("combining", 3)
    return State(run.as_dict(), make_instance("running"), ("combining",))


@state
def success() -> State:
    run = done()
    values = [("row_count", 7_521_736), ("paid", "1234567890123.45"), ("largest", "99812.10")]
    run.report.result = result_part(values, 3, complete=True, verified="The number of rows equals count(*).")
    earlier = [make_earlier(number, seconds=41 + number * 3 % 11) for number in range(1, 9)]
    return State(run.end("success"), make_instance("success"), ("finished|success", "48 ranges"), earlier)


@state
def success_of_a_small_job() -> State:
    run = Try(1, ago=5)
    run.plan(0.3)
    run.start()
    run.work(range(1), seconds=lambda _: 0.4, rows=lambda _: 12)
    return State(run.end("success", combining=0.0), make_instance("success"), ("finished|success", "1 range\\b"))


@state
def planned() -> State:
    run = Try(64, ago=6)
    run.plan()
    return State(run.end("planned", combining=0), make_instance("success"), ("plan", "64 ranges"))


@state
def incomplete() -> State:
    failures = dict.fromkeys((5, 21, 30), KINDS[0])
    run = done(failures=failures)
    run.report.advice = ["The rows of 3 ranges are missing from the result. Clear the task to process them again."]
    run.report.result = result_part([("row_count", 7_044_119)], 1, complete=False)
    detail = "3 of 48 ranges failed and are not in the result (tolerated_failures=5)"
    return State(run.end("incomplete", detail), make_instance("success"), ("incomplete", "3 of 48 ranges failed"))


FAILED_18 = """18 of 48 ranges failed, with 4 kinds of errors (tolerated: 0):
- ZeroDivisionError: division by zero
  in range 2 (312500 <= id < 468750) and 8 more
- and 3 more kinds, see the log"""


@state
def failed() -> State:
    run = done(failures=fail_18(), attempts=lambda index: 3 if index in fail_18() else 1)
    return State(run.end("failed", FAILED_18, combining=0), make_instance("failed"), ("failed", "18 of 48 ranges"))


@state
def failed_before_planning() -> State:
    run = Try(ago=4)
    run.phase("snapshot", 0.2)
    run.status("planning")
    run.phase("planning", 0.1)
    detail = 'Table "ordes" not found in database shop.'
    return State(run.end("failed", detail, combining=0), make_instance("failed"), ("failed", '"ordes" not found'))


@state
def cluster_unreachable() -> State:
    run = Try(ago=33)
    run.wait(30)
    detail = (
        "No response from https://burla.example.com (Connection timed out). Check the host of the Burla connection.\n"
        "httpx.ConnectTimeout: timed out"
    )
    return State(run.end("failed", detail, combining=0), make_instance("failed"), ("failed", "No response from"))


@state
def waits_for_a_retry() -> State:
    run = done(failures=fail_18())
    run.report.attempt = (1, 3)
    run.report.retry = {"seconds": 300, "remaining": 18}
    run.report.advice = ["A retry processes the 18 ranges that are missing. Clearing the task starts afresh."]
    report = run.end("failed", FAILED_18, combining=0)
    instance = make_instance("up_for_retry", max_tries=2)
    return State(report, instance, ("retry", r"\d\d:\d\d", "try 2 of 3", "18 ranges"))


@state
def second_try() -> State:
    run = Try(ago=20)
    run.plan()
    for index in set(range(48)) - set(fail_18()):
        run.resume(index)
    run.start(items=18)
    run.work(sorted(fail_18()), until=5)
    run.report.attempt = (2, 3)
    first = {
        "number": 1,
        "state": "failed",
        "detail": FAILED_18.split(":\n")[0],
        "began": run.began - 400,
        "seconds": 95.2,
    }
    run.report.tries = [first | {"done": 30, "failed": 18}]
    report = run.as_dict()
    return State(report, make_instance("running", try_number=2, max_tries=2), ("running", "try 2 of 3", r"3\d of 48"))


@state
def rescheduled() -> State:
    run = paused_after_40(seconds=600)
    run.wait(600)
    pause = {"since": run.now - 600, "query": "SELECT paused FROM job_control", "seconds": 0}
    run.report.pause = lambda: pause
    return State(run.end("rescheduled", combining=0), make_instance("up_for_reschedule"), ("rescheduled|pause",))


@state
def killed() -> State:
    """The task was killed and could not store a final report."""
    run = running()
    return State(run.as_dict(), make_instance("failed"), ("failed|without a final report",))


@state
def map_() -> State:
    run = Try(40, ago=30, unit="input", title="convert_file")
    run.plan(0)
    run.start()
    run.work(range(40), rows=lambda _: None, failures={7: KINDS[3]}, until=18)
    return State(run.as_dict(), make_instance("running", operator_name="BurlaMapOperator"), ("running",))


@state
def many_ranges() -> State:
    """20,000 ranges, of which 500 failed."""
    run = Try(20_000, ago=1000)
    run.plan()
    run.start()
    failures = {index: KINDS[index // 40 % 3] for index in range(0, 20_000, 40)}
    run.work(range(20_000), workers=64, failures=failures)
    detail = "500 of 20,000 ranges failed: 168 with ZeroDivisionError, 166 with NumericValueOutOfRange, 166 others"
    return State(run.end("failed", detail, combining=0), make_instance("failed"), ("failed", "500 of 20,000"))


@state
def many_ranges_few_failures() -> State:
    run = Try(20_000, ago=1000)
    run.plan()
    run.start()
    run.work(range(20_000), workers=64, failures={7_000: KINDS[0], 9_000: KINDS[1]}, until=700)
    return State(run.as_dict(), make_instance("running", start_date=time.time() - 1001), ("running", "2 failed"))


@state
def thousand_workers() -> State:
    run = Try(20_000, ago=100)
    run.plan()
    run.start()
    run.work(range(20_000), workers=1000, until=35)
    return State(run.as_dict(), make_instance("running"), ("running",))


@state
def version_1() -> State:
    """A report of the release before."""
    report = json.loads((Path(__file__).parent / "data" / "report-version-1.json").read_text())
    instance = make_instance("failed", start_date=report["began"] - 1, end_date=report["updated"])
    return State(report, instance, ("failed", "2"))


@state
def newer_version() -> State:
    return State(done().end("success") | {"version": 3}, make_instance("success"), ("written by a newer version",))


def make_earlier(days: int, *, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the task instance of an earlier run, and its report."""
    start = time.time() - days * 86_400
    run = Try(ago=0, at=start)
    run.plan()
    run.start()
    run.work(range(48), seconds=lambda index: seconds * 4 / 48)
    report = run.end("success")
    instance = make_instance(
        "success",
        dag_run_id=f"scheduled__2026-11-{20 - days:02}T06:00:00+00:00",
        start_date=start,
        end_date=run.now + 1,
        queued_when=start - 4,
        logical_date=start - 60,
        run_after=start - 60,
    )
    return instance, report
