"""BurlaPostgresTransformOperator: write the rows that a Python function returns to a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burla_provider.operators.table import BurlaTableOperator
from burla_provider.task.config import BatchFormat, RowFormat
from burla_provider.task.transform_config import TransformJobConfig, WriteMode

if TYPE_CHECKING:
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.lineage import TableLineage
    from burla_provider.task.session import TaskSession
    from burla_provider.task.table_job import TableJob


class BurlaPostgresTransformOperator(BurlaTableOperator):
    """Call a function on every row of a table, in parallel on Burla, and write the rows that it returns to a table.

    Exactly one of ``map_row`` and ``map_batch`` is given. The function runs before the transaction that writes its
    rows, so it may take long. The return value is one small dict of numbers: ``row_count`` (rows read),
    ``rows_inserted`` or ``rows_written`` (inserted or updated) or ``rows_updated``, ``rows_unchanged``,
    ``rows_deleted``, ``rows_filtered``, and with a ``reject_table`` ``rows_rejected``. They count all tries of a run.

    **Function**

    :param map_row: ``f(row)`` returns a row (a tuple or a dict), several (a list or a generator), or None.
    :param map_batch: ``f(batch)`` gets a list of rows or a batch of ``batch_format``, and returns rows or a batch.
    :param batch_format: "pandas", "polars" or "arrow": ``map_batch`` gets a batch of this format instead of a list of
        rows. It returns a batch of any of these formats, with the columns of the target, or a list of rows. None: rows.
    :param batch_size: rows per call of ``map_batch``. The last batch of a range has fewer, and so have batches of more
        than 32 MB. None: 1,000 rows, or about 2 MB with ``batch_format``.
    :param row_format: format of the rows that the function gets without ``batch_format``: "tuple" or "dict".

    **Target**

    :param target_table: name of the table to write to, with its schema if that is not on the search path. None:
        ``write_mode="update"`` updates the rows that are read. The function then returns the values of
        ``update_columns``, or None to leave a row as it is. If another session changes a row while it is computed, it
        is computed again.
    :param target_conn_id: Airflow connection to its database. None: ``postgres_conn_id``.
    :param target_columns: columns that get values, in the order of the rows that are returned. None: all columns,
        without generated ones.
    :param write_mode: "insert"; "upsert": insert, or update the row with the same ``conflict_columns``; "update": only
        update; "overwrite": replace the rows that ``overwrite_where`` names when all ranges are done. A row is left as
        it is if no value differs.
    :param conflict_columns: columns of a unique index of the target. None: its primary key. An overwrite of a table
        without a primary key deletes and inserts.
    :param update_columns: columns to update. None: all of ``target_columns`` except ``conflict_columns``. []: an upsert
        leaves the row that is there.
    :param overwrite_where: SQL condition on the target's columns, without subqueries: the rows that an overwrite
        replaces, such as ``"day = '{{ data_interval_start | ds }}'"``. "TRUE" names all rows. A row that the function
        returns must satisfy it.
    :param version_column: an upsert updates a row only if its value of this column, which must be one of
        ``update_columns``, is greater. None: the last row wins.

    **Rows that fail**

    :param reject_table: table of the target's database ("schema.table", created if it does not exist) that gets the
        rows on which the function fails, or that the server refuses (SQLSTATE class 22 or 23). The other rows are
        written. An overwrite deletes the old rows of rejected rows. It needs a ledger, which an overwrite has. None:
        the range fails.
    :param tolerated_rejects: number or percentage ("1%") of rows that may be rejected. If there are more, the job ends,
        and the task fails. None: no limit.
    :param isolate_failures: find the rows that fail: by halving the batches of ``map_batch``, so that the function is
        called about three times per row of a batch if one row fails. Required with ``map_batch`` and a
        ``reject_table``. Without a ``reject_table``, the error names the keys of the rows.

    **Pausing**

    :param pause_while: SQL that returns true while the workers must not write, such as
        ``"SELECT EXISTS (SELECT FROM job_control WHERE paused)"``. The task asks every ten seconds. After a pause of
        ten minutes it ends the job, and Airflow starts the task again later without using up a retry.
    :param pause_conn_id: Airflow connection on which the task asks. None: ``target_conn_id``.

    The ledger is a table of the target's database. It is required for inserts, and for updates in place of a column
    that the function reads. Without one, an overwrite creates its own, and drops it at the end. With a ledger, each row
    is written once per run, and a retry continues where the last try ended, even if the table has changed since.

    See :class:`~burla_provider.operators.table.BurlaTableOperator` and
    :class:`~burla_provider.operators.base.BurlaBaseOperator` for the other parameters.

    :raises InvalidParameterError: when the DAG file is parsed, if a value cannot be used.
    """

    template_fields: Sequence[str] = (
        *BurlaTableOperator.template_fields,
        "target_table",
        "target_conn_id",
        "target_columns",
        "conflict_columns",
        "update_columns",
        "version_column",
        "overwrite_where",
        "reject_table",
        "tolerated_rejects",
        "batch_size",
        "pause_while",
        "pause_conn_id",
    )
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaTableOperator.template_fields_renderers,
        "overwrite_where": "postgresql",
        "pause_while": "postgresql",
    }
    function_fields = ("map_row", "map_batch")
    worker_functions = function_fields
    shallow_copy_attrs: Sequence[str] = (*function_fields, "init")
    config_class = TransformJobConfig

    def __init__(
        self,
        *,
        write_mode: WriteMode,
        target_table: str | None = None,
        target_conn_id: str | None = None,
        target_columns: Sequence[str] | None = None,
        map_row: Callable[[Any], Any] | None = None,
        map_batch: Callable[[Any], Any] | None = None,
        batch_format: BatchFormat | None = None,
        batch_size: int | str | None = None,
        row_format: RowFormat = "tuple",
        conflict_columns: Sequence[str] | None = None,
        update_columns: Sequence[str] | None = None,
        version_column: str | None = None,
        overwrite_where: str | None = None,
        reject_table: str | None = None,
        tolerated_rejects: int | str | None = None,
        isolate_failures: bool = False,
        pause_while: str | None = None,
        pause_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.write_mode = write_mode
        self.target_table = target_table
        self.target_conn_id = target_conn_id
        self.target_columns = target_columns
        self.map_row = map_row
        self.map_batch = map_batch
        self.batch_format = batch_format
        self.batch_size = batch_size
        self.row_format = row_format
        self.conflict_columns = conflict_columns
        self.update_columns = update_columns
        self.version_column = version_column
        self.overwrite_where = overwrite_where
        self.reject_table = reject_table
        self.tolerated_rejects = tolerated_rejects
        self.isolate_failures = isolate_failures
        self.pause_while = pause_while
        self.pause_conn_id = pause_conn_id
        self._check_at_parse()

    def execute_job(self, config: TransformJobConfig, runner: JobRunner) -> dict[str, Any]:
        """Wait while the job must not start, then process the table."""
        from burla_provider.task.pause import wait_to_start
        from burla_provider.task.run_identity import session_name

        runner.reporter.enter("connecting")
        wait_to_start(config, session_name(runner.context), self.log, runner.reporter)
        return super().execute_job(config, runner)

    @contextmanager
    def open_job(
        self, config: TransformJobConfig, runner: JobRunner, session: TaskSession, lineage: TableLineage
    ) -> Iterator[TableJob]:
        """Connect to the target's database, check the target, and return the job."""
        from burla_provider.task.overwrite_job import OverwriteJob
        from burla_provider.task.pause import open_pause
        from burla_provider.task.places import target_places
        from burla_provider.task.target import open_target
        from burla_provider.task.transform_job import TransformJob

        with (
            open_target(config, session, runner.hook.engine) as target,
            open_pause(config, target.parameters, session.name, self.log, runner.reporter) as pause,
        ):
            runner.reporter.add_places(target_places(config, target))
            if target.exchange is None:
                yield TransformJob(config, runner, session, lineage, self.outlets, target, pause)
                return
            job = OverwriteJob(config, runner, session, lineage, self.outlets, target, pause, target.exchange)
            self.on_success_callback = [job.forget, *self.on_success_callback]
            yield job

    def _has_ledger(self) -> bool:
        # Before its last step, an overwrite has not written to the target.
        return super()._has_ledger() and self.write_mode != "overwrite"
