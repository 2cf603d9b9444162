"""The kinds of work: what is done with the rows of one range. One file each; a new kind is a file and a line here."""

from burla_provider.work.kinds.kind import Kind, Worked
from burla_provider.work.kinds.process_range import ProcessRange
from burla_provider.work.kinds.process_rows import ProcessRows
from burla_provider.work.kinds.sql_totals import SqlTotals

__all__ = ["Kind", "ProcessRange", "ProcessRows", "SqlTotals", "Worked"]
