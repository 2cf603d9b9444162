"""The tables that a run reads and writes, for Airflow's assets and, if it is installed, for OpenLineage."""

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
    """The table that a run reads, as an asset and as an OpenLineage dataset. A listener that counts the rows.

    :param server: ``info`` of a connection to the server.
    :param schema: schema of the table.
    :param table: name of the table.
    :param sql: the query; None for a job without a query.
    """

    def __init__(self, server: ConnectionInfo, schema: str, table: str, sql: str | None) -> None:
        self._namespace = _namespace(server)
        self._database = server.dbname
        self._table = (schema, table)
        self._written: list[tuple[str, str]] = []  # namespace and name
        self._sql = sql
        self.row_count = 0

    def add(self, outcome: Outcome) -> None:
        """Count the rows of a range."""
        self.row_count += outcome.row_count or 0

    def add_output(self, schema: str, table: str, server: ConnectionInfo | None = None) -> None:
        """Add a table that the run has written.

        :param server: ``info`` of a connection to its server; None: the server of the table that is read.
        """
        namespace, database = (_namespace(server), server.dbname) if server else (self._namespace, self._database)
        self._written.append((namespace, f"{database}.{schema}.{table}"))

    def with_table_asset(self, inlets: Iterable[Any]) -> list[Any]:
        """Return the inlets, followed by the table as an asset if they do not have it yet."""
        from airflow.providers.common.compat.sdk import Asset

        given = list(inlets)
        table = self._asset()
        has_table = any(isinstance(inlet, Asset) and inlet.uri == table.uri for inlet in given)
        return given if has_table else [*given, table]

    def facets(self, inlets: Iterable[Any], outlets: Iterable[Any]) -> OperatorLineage[Any, Any]:
        """Return the lineage of the run: the table with the number of rows, the user's own datasets, the SQL.

        Only OpenLineage's listener calls this, so OpenLineage is installed. Its events have the error of a failed task.
        """
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset, sql_job

        statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=self.row_count)
        table = InputDataset(self._namespace, self._name(*self._table), inputFacets={"inputStatistics": statistics})
        written = [OutputDataset(namespace, name) for namespace, name in self._written]
        given = declared_lineage(inlets, outlets)
        others = (data for data in given.inputs if (data.namespace, data.name) != (table.namespace, table.name))
        return OperatorLineage(
            inputs=[table, *others],
            outputs=[*written, *given.outputs],
            job_facets={"sql": sql_job.SQLJobFacet(query=self._sql, dialect="postgres")} if self._sql else {},
        )

    def _name(self, schema: str, table: str) -> str:
        return f"{self._database}.{schema}.{table}"

    def _asset(self) -> Asset:
        from airflow.providers.common.compat.sdk import Asset

        path = "/".join(quote(part, safe="") for part in (self._database, *self._table))
        return Asset(f"{self._namespace}/{path}")


def declared_lineage(inlets: Iterable[Any], outlets: Iterable[Any]) -> OperatorLineage[Any, Any]:
    """Return the inlets and outlets of a task as datasets. Only OpenLineage's listener calls this."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.extractors.manager import ExtractorManager

    inputs, outputs = (filter(None, map(ExtractorManager.convert_to_ol_dataset, given)) for given in (inlets, outlets))
    return OperatorLineage(inputs=list(inputs), outputs=list(outputs))


def _namespace(server: ConnectionInfo) -> str:
    # The directory of a Unix socket is not a host name.
    host = "localhost" if server.host.startswith("/") else server.host
    return f"postgres://{f'[{host}]' if ':' in host else host}:{server.port}"


def set_outlet_extra(context: Context, outlets: Iterable[Any], totals: Mapping[str, Any]) -> None:
    """Add the totals to the events of the task's outlet assets, for the DAGs that these events trigger.

    :param totals: JSON.
    """
    from airflow.providers.common.compat.sdk import Asset

    for outlet in outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(totals)
