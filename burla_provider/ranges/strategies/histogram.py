"""Cut by the statistics of the last ANALYZE. Reads no rows and takes milliseconds, whatever the size of the table."""

from __future__ import annotations

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return the distribution that the statistics describe."""
    name = profile.key if profile.relation is None else f"{profile.key} in {'.'.join(profile.relation)}"
    if profile.statistics is None:
        problem = f"this role sees no statistics of {name}."
        advice = "ANALYZE the table, GRANT SELECT ON pg_stats, or use split='keyset'."
        raise InvalidParameterError("split", problem, advice)
    if profile.statistics.distribution is None:
        problem = f"the statistics of {name} contain no usable bounds."
        raise InvalidParameterError("split", problem, "Use split='keyset'.")
    return profile.statistics.distribution.scaled(profile.rows)
