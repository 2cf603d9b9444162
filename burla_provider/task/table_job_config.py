"""The parameters of one job on the rows of a table: frozen, checked, and normalized, as in ``task/config.py``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.config import TableConfig
from burla_provider.task.function_arguments import check_task_function
from burla_provider.task.validation import (
    UNRENDERED,
    check_boolean,
    check_choice,
    check_dict_of_strings,
    check_function,
    check_single,
)

PROCESSORS = ("totals", "process_rows", "process_range")
"""Parameters that define what is done with the rows. Exactly one is given."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TableJobConfig(TableConfig):
    """The parameters of a ``BurlaPostgresOperator``, which documents them."""

    totals: Mapping[str, str] | None
    process_rows: Callable[[Iterable[Any]], dict[str, Any]] | None
    process_range: Callable[..., dict[str, Any]] | None
    combine: Callable[[list[dict[str, Any]]], dict[str, Any]] | None
    isolate_failures: bool
    verify: Literal["count"] | None

    result_size_advice: ClassVar[str] = (
        "Return less: results_table keeps the result of each range, so that combine can return a summary. Or let the"
        " function write to a table or an object store, and return the location. Raise the limit only if your XCom"
        " backend keeps large values."
    )

    def _check_rows(self) -> None:
        check_single("Choose what to do with the rows.", **{name: getattr(self, name) for name in PROCESSORS})
        if self.totals is not None:
            check_dict_of_strings("totals", self.totals)
        for name in ("process_rows", "process_range"):
            if getattr(self, name) is not None:
                check_function(name, getattr(self, name))
        if self.combine is not None:
            check_task_function("combine", self.combine)
        if self.row_format == "arrow":  # type: ignore[comparison-overlap]
            self._rename_row_format()
        for name in ("batch_format", "batch_size"):
            if getattr(self, name) is not None and self.process_rows is None:
                raise InvalidParameterError(name, "is for process_rows.", "Leave it out.")
        if self.batch_size is not None and self.batch_format is None:
            advice = 'Leave it out, or use batch_format="pandas", "polars" or "arrow".'
            raise InvalidParameterError("batch_size", "is for batches, and process_rows gets single rows.", advice)
        if self.combine is not None and self.totals is not None:
            raise InvalidParameterError(
                "combine", "cannot be used with totals, which have their own.", "Leave it out, or use process_rows."
            )
        super()._check_rows()

    def _rename_row_format(self) -> None:
        """Accept ``row_format="arrow"``, the former name of ``batch_format="arrow"``."""
        from airflow.exceptions import AirflowProviderDeprecationWarning

        message = 'row_format="arrow" is deprecated. Use batch_format="arrow".'
        warnings.warn(message, AirflowProviderDeprecationWarning, stacklevel=2)
        self._normalize("row_format", "tuple")
        self._normalize("batch_format", self.batch_format or "arrow")

    def _check_writes(self) -> None:
        if self.consistency is None:
            self._normalize("consistency", "snapshot" if self.ledger is None else "none")
        super()._check_writes()
        if self.ledger is not None and self.process_range is None:
            raise InvalidParameterError("ledger", "is for functions that write.", "Use it with process_range.")
        if self.ledger is not None and self.consistency == "snapshot":
            raise InvalidParameterError(
                "consistency", 'must be "none" with a ledger: a snapshot is read-only.', "Leave it out."
            )
        check_boolean("isolate_failures", self.isolate_failures)
        check_choice("verify", self.verify, ("count", None))
        if self.verify is not None and self.consistency not in ("snapshot", UNRENDERED):
            raise InvalidParameterError(
                "verify", "rows can be compared in a snapshot only.", 'Use consistency="snapshot".'
            )
