"""What the log says about a plan whose rows are written: where another row may win, or be left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.worker.sinks import Sink, Upsert

if TYPE_CHECKING:
    import psycopg

    from burla_provider.ranges.catalog import TableFacts
    from burla_provider.ranges.key import Key
    from burla_provider.task.transform_config import TransformJobConfig

_CHANGING_NAME = re.compile(r"(updated|modified|changed|touched|last_\w+)(_(at|on|ts|time|date|timestamp))?|mtime")

_UPDATE_TRIGGERS = """
    SELECT g.tgname::text, f.proname::text, f.prosrc, encode(g.tgargs, 'escape')
    FROM pg_trigger AS g JOIN pg_proc AS f ON f.oid = g.tgfoid
    WHERE g.tgrelid = %s AND g.tgtype & 19 = 19 AND g.tgenabled IN ('O', 'A')  -- BEFORE UPDATE, of each row
    ORDER BY g.tgname
"""


def check_split_key(
    connection: psycopg.Connection[Any], facts: TableFacts, key: Key, config: TransformJobConfig, log: Any
) -> None:
    """Check that updates do not change the key by which the table is split. Log a warning if that is not certain.

    :raises InvalidParameterError: if an update in place changes it.
    """
    for name in key.names:
        trigger = _find_trigger(connection, facts, name)
        if trigger and config.is_in_place:
            raise InvalidParameterError(
                "key",
                f"the trigger {trigger} sets {name} in each update: a row that another session updates would move to"
                " another range, and keep its old values.",
                "Split by a key that updates do not change, such as the primary key.",
            )
        reason = f"the trigger {trigger} sets it" if trigger else _why_it_may_change(name, config)
        # The rows that an incremental run leaves out are in the window of the next run.
        if reason and not config.is_increment and (config.consistency == "none" or config.continues_plan):
            log.warning(
                "Updates seem to change the key %s (%s). A row that is updated during this run may be left out: split"
                " by a key that updates do not change.",
                name,
                reason,
            )


def log_version_hint(facts: TableFacts, split_key: Key, unique_key: Key, sink: Sink, log: Any) -> None:
    """Say that rows of two ranges may have the same conflict columns, unless these seem to be a key of the source."""
    if not isinstance(sink, Upsert) or sink.version is not None or not sink.update_columns:
        return
    if any(key.columns and set(key.names) <= set(sink.key) for key in (split_key, unique_key)):
        return
    log.info(
        "If rows of %s have the same %s, the one that is written last wins. If the one with the greater value of a"
        " column must win, name that column: version_column.",
        facts,
        ", ".join(sink.key),
    )


def _find_trigger(connection: psycopg.Connection[Any], facts: TableFacts, column: str) -> str | None:
    assigned = re.compile(rf'\bnew\s*\.\s*"?{re.escape(column)}"?\s*:?=(?!=)', re.IGNORECASE)
    for trigger, function, source, arguments in connection.execute(_UPDATE_TRIGGERS, [facts.oid]).fetchall():
        if function == "moddatetime" and arguments.split("\\000")[0] == column:
            return str(trigger)
        if _is_assigned(assigned, source):
            return str(trigger)
    return None


def _is_assigned(assigned: re.Pattern[str], source: str) -> bool:
    # A comparison looks like an assignment, but only an assignment begins a statement.
    return any(
        assigned.match(statement.strip())
        for statement in re.split(r";|\bbegin\b|\bthen\b|\belse\b", re.sub(r"--.*", "", source), flags=re.IGNORECASE)
    )


def _why_it_may_change(name: str, config: TransformJobConfig) -> str:
    if name == config.version_column:
        return "it is the version_column"
    return "by its name" if _CHANGING_NAME.fullmatch(name.lower()) else ""
