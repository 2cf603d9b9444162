"""Where a task runs, and what it reads and writes: pairs of a label and a short text, for the Ranges tab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from burla_provider.jobs.job import JobOptions

if TYPE_CHECKING:
    from burla_provider.database.connection_limit import ConnectionLimit
    from burla_provider.jobs.job import Engine
    from burla_provider.ranges.window import WindowLimits
    from burla_provider.task.config import JobConfig, TableConfig
    from burla_provider.task.session import TaskSession
    from burla_provider.task.target import TargetSession
    from burla_provider.task.transform_config import TransformJobConfig
    from burla_provider.worker.source import Source

Places = Iterator[tuple[str, str]]


def engine_places(config: JobConfig, engine: Engine) -> Places:
    """Yield the engine and the resources that are not the defaults."""
    if engine.is_local:
        yield "Engine", "local, on the Airflow machine"
    else:
        host = urlsplit(engine.url or "").hostname
        yield "Engine", "Burla cluster"
        yield "Cluster", host or "that of the saved login"
    resources = ("max_parallelism", "func_cpu", "func_ram", "func_gpu", "grow", "image", "region", "disk_gb")
    defaults = vars(JobOptions())
    given = {name: getattr(config, name) for name in resources if getattr(config, name) != defaults[name]}
    if given:
        yield "Resources", ", ".join(f"{name}={value}" for name, value in given.items())
    if config.requirements:
        names = [config.requirements] if isinstance(config.requirements, str) else list(config.requirements)
        yield "Packages", ", ".join(names)


def session_places(config: TableConfig, session: TaskSession) -> Places:
    """Yield the database that is read, and how."""
    yield "Database", f"{config.postgres_conn_id}: {_database(session.parameters)}"
    yield "Consistency", "one snapshot for all ranges" if session.snapshot else "each range reads its own snapshot"
    yield "Sessions", f"{session.name} in pg_stat_activity.application_name, with the number of the range"


def source_places(config: TableConfig, source: Source, limits: WindowLimits) -> Places:
    """Yield the rows that are read."""
    if source.where:
        yield "Rows", " ".join(source.where.split())
    if limits.given_names:
        yield "Window", ", ".join(f"{name}={getattr(limits, name)}" for name in limits.given_names)
    if config.columns:
        yield "Columns", ", ".join(config.columns)
    if config.results_table:
        yield "Results table", config.results_table
    if config.ledger:
        yield "Ledger", config.ledger


def target_places(config: TransformJobConfig, target: TargetSession) -> Places:
    """Yield where rows are written, and how."""
    mode = config.write_mode
    if target.exchange is not None:
        where = " ".join(target.exchange.where.split())
        yield "Target", f"{target.exchange.target} ({mode} where {where})"
    else:
        yield "Target", f"{target.target} ({'update in place' if config.is_in_place else mode})"
    if config.target_conn_id != config.postgres_conn_id:
        yield "Target database", f"{config.target_conn_id}: {_database(target.parameters)}"
    if config.reject_table:
        yield "Rejected rows", config.reject_table
    if config.pause_while:
        yield "Paused while", " ".join(config.pause_while.split())


def connection_places(limit: ConnectionLimit, items: int) -> Places:
    """Yield how many calls run at the same time, with how many connections.

    :param items: number of items to process.
    """
    if not items:
        return
    calls = min(limit.limit, items)
    yield "Workers", f"up to {calls:,} at the same time"
    yield "Connections", f"up to {calls * limit.per_call:,} used, {limit.slots * limit.per_call:,} allowed"


def _database(parameters: Mapping[str, str]) -> str:
    """Return host, port and database of libpq parameters. User and password stay out."""
    host = parameters.get("host", "")
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{parameters.get('port', '5432')}/{parameters.get('dbname', '')}"
