"""Where a window ends: no row that is written later has a key below the end, whatever the zone of its session."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.increment import find_column, find_increment, hidden_zone
from burla_provider.worker.source import Source

ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland"]
TYPES = ["timestamp", "timestamp(0)", "timestamp(3)", "date"]
BACK = {
    "America/New_York": datetime(2026, 11, 1, 6, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "Pacific/Auckland": datetime(2026, 4, 4, 14, tzinfo=UTC),
}
"""When clocks are set back."""

moments = st.builds(
    lambda back, seconds: back + timedelta(seconds=seconds),
    st.sampled_from(list(BACK.values())),
    st.floats(-100_000, 100_000).map(lambda seconds: round(seconds, 6)),
)


@pytest.fixture
def clock(connection):
    """A connection on which now() is what the setting test.now says."""
    connection.execute("""
        CREATE SCHEMA clock;
        CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql
            AS $$ SELECT current_setting('test.now')::timestamptz $$;
        SET search_path = public, clock, pg_catalog;
    """)
    return connection


def set_zone(connection, kind, name, zone):
    """Set the default zone of the database or of a role, for sessions that begin later."""
    statement = "ALTER {} {} SET timezone = {}" if zone else "ALTER {} {} RESET timezone"
    values = [sql.SQL(kind), sql.Identifier(name)] + ([sql.Literal(zone)] if zone else [])
    connection.execute(sql.SQL(statement).format(*values))


def end_of_window(connection, now, lag=None):
    connection.execute("SELECT set_config('test.now', %s, false)", [now.isoformat()])
    column = find_column(read_facts(PlannerConnection(connection), "events"), "at")
    increment = find_increment(connection, Source("public", "events"), column, None, lag)
    return increment and increment.upper


def write(connection, now, zone):
    """Add a row as a session in the zone does."""
    connection.execute("SELECT set_config('test.now', %s, false)", [now.isoformat()])
    connection.execute(sql.SQL("SET timezone = {}").format(sql.Literal(zone)))
    connection.execute("INSERT INTO events SELECT now()::timestamp")


@pytest.fixture
def writer(clock):
    name = f"writer_{clock.info.dbname}"
    clock.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    clock.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


BERLIN = BACK["Europe/Berlin"]


@given(
    kind=st.sampled_from(TYPES),
    zones=st.fixed_dictionaries({name: st.sampled_from(ZONES) for name in ("session", "database", "role")}),
    by=st.sampled_from(["session", "database", "role"]),
    now=moments,
    later=st.floats(0, 100_000).map(lambda seconds: timedelta(seconds=round(seconds, 6))),
    lag=st.sampled_from([None, timedelta(seconds=1), timedelta(minutes=45), timedelta(days=2)]),
)
@example("timestamp", {"session": "UTC", "database": "America/New_York", "role": "UTC"}, "database", BERLIN,
         timedelta(seconds=1), None)  # fmt: skip
@example("timestamp", dict.fromkeys(("session", "database", "role"), "Europe/Berlin"), "database",
         BERLIN - timedelta(minutes=5), timedelta(minutes=10), None)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_later_row_is_never_below_the_end(clock, writer, kind, zones, by, now, later, lag):
    """``lag`` covers rows that become visible late: written before the end of the run, by up to ``lag``."""
    clock.execute(f"DROP TABLE IF EXISTS events; CREATE TABLE events (at {kind})")
    clock.execute(sql.SQL("GRANT INSERT ON events TO {}").format(sql.Identifier(writer)))
    set_zone(clock, "DATABASE", clock.info.dbname, zones["database"])
    set_zone(clock, "ROLE", writer, zones["role"])
    # Just below the time in each zone.
    clock.execute(
        "INSERT INTO events SELECT timezone(zone, %s::timestamptz) - %s - back::interval - unit::interval"
        " FROM unnest(%s::text[]) AS zone, unnest('{0,1 hour}'::text[]) AS back,"
        " unnest('{1 microsecond,1 millisecond,1 second,1 day}'::text[]) AS unit",
        [now, lag or timedelta(0), ZONES],
    )
    clock.execute(sql.SQL("SET timezone = {}").format(sql.Literal(zones["session"])))
    end = end_of_window(clock, now, lag)
    clock.execute("DELETE FROM events")
    write(clock, now - (lag or timedelta(0)) + later, zones[by])
    assert clock.execute(f"SELECT at >= %s::{kind} FROM events", [end]).fetchone() == (True,)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_a_lag_of_a_day_has_24_hours_also_when_clocks_are_set_forward(clock, kind):
    clock.execute(f"CREATE TABLE events (at {kind})")
    now, lag = datetime(2026, 3, 29, 12, tzinfo=UTC), timedelta(days=1)
    write(clock, now - lag - timedelta(microseconds=1), "Europe/Berlin")
    end = end_of_window(clock, now, lag)
    clock.execute("DELETE FROM events")
    write(clock, now - lag, "Europe/Berlin")
    assert clock.execute(f"SELECT at = %s::{kind} FROM events", [end]).fetchone() == (True,)


@given(kind=st.sampled_from(TYPES[:3]), zone=st.sampled_from(ZONES), now=moments)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_later_row_of_a_writer_in_an_unknown_zone_is_not_below_the_end(clock, kind, zone, now):
    clock.execute(f"DROP TABLE IF EXISTS events; CREATE TABLE events (at {kind})")
    clock.execute("INSERT INTO events VALUES ('9999-12-31')")
    local = now.astimezone(ZoneInfo(zone))
    later = now + timedelta(seconds=1)
    if later.astimezone(ZoneInfo(zone)).utcoffset() != local.utcoffset():
        later += timedelta(hours=1)  # an hour that occurs twice in an unknown zone needs lag
    write(clock, now, zone)
    clock.execute("SET timezone = 'Pacific/Auckland'")
    end = end_of_window(clock, now)
    clock.execute("DELETE FROM events")
    write(clock, later, zone)
    [(is_below,)] = clock.execute(f"SELECT at < %s::{kind} FROM events", [end]).fetchall()
    assert not is_below


@given(
    kind=st.sampled_from([*TYPES, "timestamptz", "timestamptz(0)"]),
    zones=st.fixed_dictionaries({name: st.sampled_from(ZONES) for name in ("database", "role")}),
    first=st.sampled_from(["database", "role"]),
    by=st.sampled_from(["database", "role"]),
    replayed=moments,
    late=st.floats(0, 10_000).map(lambda seconds: timedelta(seconds=round(seconds, 6))),
    later=st.floats(0, 80_000).map(lambda seconds: timedelta(seconds=round(seconds, 6))),
    lag=st.sampled_from([None, timedelta(seconds=1), timedelta(minutes=45)]),
)
@example("timestamp", dict.fromkeys(("database", "role"), "Europe/Berlin"), "database", "database",
         BERLIN - timedelta(minutes=5), timedelta(minutes=20), timedelta(minutes=10), None)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_row_that_a_standby_replays_later_is_not_below_the_end(
    clock, writer, kind, zones, first, by, replayed, late, later, lag
):
    clock.execute(f"DROP TABLE IF EXISTS events; CREATE TABLE events (at {kind})")
    clock.execute(sql.SQL("GRANT INSERT ON events TO {}").format(sql.Identifier(writer)))
    clock.execute(
        "CREATE OR REPLACE FUNCTION clock.pg_is_in_recovery() RETURNS boolean STABLE LANGUAGE sql RETURN true"
    )
    set_zone(clock, "DATABASE", clock.info.dbname, zones["database"])
    set_zone(clock, "ROLE", writer, zones["role"])
    write(clock, replayed, zones[first])
    end = end_of_window(clock, replayed + late, lag)
    clock.execute("DELETE FROM events")
    write(clock, replayed - (lag or timedelta(0)) + later, zones[by])
    assert end is None or clock.execute(f"SELECT at >= %s::{kind} FROM events", [end]).fetchone() == (True,)


@pytest.mark.parametrize("kind", TYPES)
def test_a_window_has_all_rows_that_are_older_than_all_clocks(clock, kind):
    clock.execute(f"CREATE TABLE events (at {kind})")
    set_zone(clock, "DATABASE", clock.info.dbname, "America/New_York")
    assert end_of_window(clock, BERLIN) is None
    clock.execute("INSERT INTO events VALUES ('-infinity'), ('2026-10-23 12:00')")
    end = end_of_window(clock, BERLIN)
    assert clock.execute(f"SELECT count(*) FROM events WHERE at < %s::{kind}", [end]).fetchone() == (2,)
    clock.execute("INSERT INTO events VALUES ('2026-10-24 20:59:59'), ('infinity')")
    end = end_of_window(clock, BERLIN)
    # In New York it is 21:00. A date that is not over is left to the next run.
    expected = 2 if kind == "date" else 3
    assert clock.execute(f"SELECT count(*) FROM events WHERE at < %s::{kind}", [end]).fetchone() == (expected,)


@pytest.mark.parametrize(("kind", "lag"), [("bigint", timedelta(1)), ("bigint", True), ("timestamp", 5), ("date", 1)])
def test_a_lag_that_does_not_fit_the_type_of_the_key_is_refused(clock, kind, lag):
    clock.execute(f"CREATE TABLE events (at {kind})")
    with pytest.raises(InvalidParameterError, match=rf"lag: .* does not fit the key 'at' \({kind}.*\)\. Use a"):
        end_of_window(clock, BERLIN, lag)


@pytest.mark.parametrize("maximum", ["294276-12-31 23:59:59.999999", "infinity"])
def test_the_newest_row_may_have_the_maximum_of_the_type(clock, maximum):
    clock.execute("CREATE TABLE events (at timestamp)")
    clock.execute("INSERT INTO events VALUES (%s)", [maximum])
    clock.execute("SET timezone = 'UTC'")
    assert end_of_window(clock, BERLIN) is None
    clock.execute("INSERT INTO events VALUES ('2026-10-25 00:30:00')")
    assert end_of_window(clock, BERLIN) == "2026-10-25 00:30:00.000001"


def test_the_zone_of_a_role_that_cannot_write_does_not_matter(clock, writer):
    clock.execute("CREATE TABLE events (at timestamp)")
    clock.execute("INSERT INTO events VALUES ('2026-10-25 00:59:59.999999'), ('2026-10-24 20:59:59.999999')")
    clock.execute("CREATE VIEW seen AS TABLE events; SET timezone = 'UTC'")
    set_zone(clock, "ROLE", writer, "America/New_York")
    role = sql.Identifier(writer)
    clock.execute(sql.SQL("GRANT SELECT ON events TO {}").format(role))
    assert end_of_window(clock, BERLIN) == "2026-10-25 01:00:00"
    column = find_column(read_facts(PlannerConnection(clock), "seen"), "at")
    increment = find_increment(clock, Source("public", "seen"), column, None, None)
    assert increment.upper == "2026-10-24 21:00:00"
    clock.execute(sql.SQL("GRANT INSERT (at) ON events TO {}").format(role))
    assert end_of_window(clock, BERLIN) == "2026-10-24 21:00:00"


def test_a_setting_that_the_server_ignores_is_ignored(clock, writer):
    clock.execute("CREATE TABLE events (at timestamp); SET timezone = 'UTC'")
    clock.execute("INSERT INTO events VALUES ('2026-10-25 00:59:59.999999')")
    query = "INSERT INTO pg_db_role_setting SELECT 0, oid, '{TimeZone=Nowhere/Else}' FROM pg_roles WHERE rolname = %s"
    clock.execute("SET allow_system_table_mods = on")
    clock.execute(query, [writer])
    clock.execute(sql.SQL("GRANT INSERT ON events TO {}").format(sql.Identifier(writer)))
    assert end_of_window(clock, BERLIN) == "2026-10-25 01:00:00"


def test_the_zone_of_the_server_is_known_unless_this_session_has_another_one(database):
    def hidden(**options):
        with psycopg.connect(database, autocommit=True, **options) as connection:
            return hidden_zone(connection)

    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname
        assert hidden() is None
        assert hidden(options="-c timezone=Asia/Kolkata") == ("Asia/Kolkata", "client")
        set_zone(connection, "DATABASE", name, "Europe/Berlin")
        assert hidden() is None
        assert hidden(options="-c timezone=Asia/Kolkata") is None
        set_zone(connection, "DATABASE", name, None)
        role = sql.Identifier(connection.info.user)
        connection.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} SET timezone = 'Asia/Kolkata'").format(
            role, sql.Identifier(name)))  # fmt: skip
        assert hidden() == ("Asia/Kolkata", "database user")
        set_zone(connection, "DATABASE", name, "Europe/Berlin")
        assert hidden() is None
