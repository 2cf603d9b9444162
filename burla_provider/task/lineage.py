"""What a run reads and writes, for Airflow's assets and, where it is installed, for OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset, Context
    from airflow.providers.openlineage.extractors import OperatorLineage
    from psycopg import ConnectionInfo


class TableLineage:
    """The table that a run reads, in the words of assets and of OpenLineage. A collector: it counts the rows.

    :param server: the connection's ``info``.
    :param schema: of the table.
    :param table: its name.
    :param sql: what is asked of it, if that is SQL.
    """

    def __init__(self, server: ConnectionInfo, schema: str, table: str, sql: str | None) -> None:
        # A socket's directory is no host that anybody else could name.
        host = "localhost" if server.host.startswith("/") else server.host
        self._namespace = f"postgres://{f'[{host}]' if ':' in host else host}:{server.port}"
        self._database = server.dbname
        self._table = (schema, table)
        self._written: list[tuple[str, str]] = []
        self._sql = sql
        self.row_count = 0

    def add(self, outcome: Outcome) -> None:
        self.row_count += outcome.row_count or 0

    def wrote(self, schema: str, table: str) -> None:
        """Name a table that the run has written."""
        self._written.append((schema, table))

    def beside(self, inlets: Iterable[Any]) -> list[Any]:
        """The user's inlets and, if it is not among them, the table as an asset."""
        from airflow.providers.common.compat.sdk import Asset

        given = list(inlets)
        table = self._asset()
        is_there = any(isinstance(one, Asset) and one.uri == table.uri for one in given)
        return given if is_there else [*given, table]

    def facets(self, inlets: Iterable[Any], outlets: Iterable[Any]) -> OperatorLineage[Any, Any]:
        """What OpenLineage is to say: the table with the rows that were worked, the user's own datasets, the SQL.

        Called by OpenLineage's own listener, so that it is installed. It says itself why a task failed.
        """
        from airflow.providers.openlineage.extractors import OperatorLineage
        from airflow.providers.openlineage.extractors.manager import ExtractorManager
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset, sql_job

        statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=self.row_count)
        read = InputDataset(self._namespace, self._name(*self._table), inputFacets={"inputStatistics": statistics})
        written = [OutputDataset(self._namespace, self._name(*table)) for table in self._written]
        others = [ExtractorManager.convert_to_ol_dataset(one) for one in inlets]
        made = [ExtractorManager.convert_to_ol_dataset(one) for one in outlets]
        is_other = (read.namespace, read.name)
        return OperatorLineage(
            inputs=[read, *(one for one in others if one and (one.namespace, one.name) != is_other)],
            outputs=[*written, *filter(None, made)],
            job_facets={"sql": sql_job.SQLJobFacet(query=self._sql, dialect="postgres")} if self._sql else {},
        )

    def _name(self, schema: str, table: str) -> str:
        return f"{self._database}.{schema}.{table}"

    def _asset(self) -> Asset:
        from airflow.providers.common.compat.sdk import Asset

        path = "/".join(quote(part, safe="") for part in (self._database, *self._table))
        return Asset(f"{self._namespace}/{path}")


def tell_outlets(context: Context, outlets: Iterable[Any], totals: Mapping[str, Any]) -> None:
    """Give the run's totals to the events of the task's outlet assets, for the DAGs that these events start.

    :param totals: JSON.
    """
    from airflow.providers.common.compat.sdk import Asset

    for outlet in outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(totals)
