"""Range processors: what is done with the rows of one range. To add one, add a file and list it here."""

from burla_provider.worker.processors.process_range import ProcessRange
from burla_provider.worker.processors.process_rows import ProcessRows
from burla_provider.worker.processors.processor import RangeProcessor, RangeResult
from burla_provider.worker.processors.sql_totals import SqlTotals
from burla_provider.worker.processors.transform import Transform

__all__ = ["ProcessRange", "ProcessRows", "RangeProcessor", "RangeResult", "SqlTotals", "Transform"]
