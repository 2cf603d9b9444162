"""Split a table into ranges of its key. Requires PostgreSQL, but neither Airflow nor Burla."""

from __future__ import annotations

from burla_provider.exceptions import PlanCoverageError
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.plan import RangePlan
from burla_provider.ranges.planner import plan_ranges
from burla_provider.ranges.strategies.width import build_id_ranges

__all__ = ["Key", "KeyRange", "PlanCoverageError", "RangePlan", "build_id_ranges", "plan_ranges"]
