"""One try of a task that adds 1 to every order, for ``test_exactly_once.py``.

``python -m ... CONNINFO RUN_KEY RANGES``
"""

import sys

import psycopg

from burla_provider.combine.combiners import SumByKey, Totals
from burla_provider.database.connect import connection_parameters
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import Engine, ItemSucceeded, Job, JobOptions
from burla_provider.jobs.runner import run_job
from burla_provider.task.ledger_table import prepare_ledger, read_outcomes, store_plan
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRange
from burla_provider.worker.range_task import RangeTask
from tests.postgres.worker.conftest import KEY, ORDERS, ranges

WORKERS = 2


def increment(connection, key_range):
    query = "UPDATE orders SET n = n + 1 WHERE id BETWEEN %s AND %s"
    return {"row_count": connection.execute(query, [key_range.start_id, key_range.end_id]).rowcount}


def main(conninfo: str, run_key: str, count: str) -> int:
    """Return 0 if every range is finished and the ledger's row counts add up to the table's."""
    ledger = Ledger("public", "burla_ledger", run_key)
    totals = Totals(SumByKey(), range(int(count)))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM orders").fetchone()
        prepare_ledger(connection, ledger)
        items = store_plan(connection, ledger, [one.to_item() for one in ranges(totals.ranges, rows)])
        for outcome in read_outcomes(connection, ledger):
            totals.add(outcome)
        parameters = connection_parameters(connection)
        task = RangeTask(parameters, ORDERS, KEY, ProcessRange(increment), range_retries=8, ledger=ledger)
    missing = {index: items[index] for index in totals.missing}
    job = Job("writing", pickle_for_workers(task), missing, JobOptions(WORKERS), batched_for=WORKERS)
    for event in run_job(job, Engine("local")):
        if isinstance(event, ItemSucceeded):
            totals.add(decode(event.result))
    return 0 if totals.complete and totals.row_count == rows else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
