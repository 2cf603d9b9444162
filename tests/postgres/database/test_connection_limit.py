import psycopg
import pytest

from burla_provider.database.connection_limit import (
    count_taken_slots,
    find_connection_limit,
    release_locks_except_slot,
    take_slot,
)
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError
from tests.support.waiting import wait_for


@pytest.fixture(autouse=True)
def alone(connection):
    """Wait until the sessions that have just been closed have ended: the server counts them until then."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
    wait_for(lambda: connection.execute(query).fetchone() == (0,))


@pytest.fixture
def connect(database):
    opened = []

    def connect(**options):
        opened.append(psycopg.connect(database, autocommit=True, **options))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def test_the_limit_is_max_parallelism_if_the_server_has_enough(connection):
    assert find_connection_limit(connection, 4).limit == 4


def test_the_server_limits_the_connections(connection):
    budget = find_connection_limit(connection, 1_000)
    assert 0 < budget.limit < 60
    assert str(budget).startswith(
        f"{budget.limit} connections: the minimum of max_parallelism 1000; server {budget.limit}"
    )


def test_a_fifth_stays_free_unless_the_user_gives_a_number(connection):
    allowed = int(connection.execute("SHOW max_connections").fetchone()[0])
    for wanted, is_given, share in [(None, True, 0.2), (1_000, False, 0.2), (1_000, True, 0.05)]:
        budget = find_connection_limit(connection, wanted, is_given=is_given)
        assert f" - {round(allowed * share)} for others)" in str(budget)
        [(in_use,)] = connection.execute("SELECT sum(numbackends) FROM pg_stat_database").fetchall()
        assert budget.limit + in_use <= allowed * (1 - share)
        assert budget.limit == budget.slots


def test_calls_that_open_two_connections_are_half_as_many(connection):
    one, two = (find_connection_limit(connection, 1_000, per_call=number) for number in (1, 2))
    assert (two.limit, two.slots) == (one.limit // 2, one.slots // 2)
    assert str(two).startswith(f"{two.limit} calls with 2 connections each, within max_parallelism 1000; server ")
    assert find_connection_limit(connection, 4, per_call=2).limit == 4


def test_a_busy_server_gives_the_connections_of_one_call(connection, connect):
    while find_connection_limit(connection, per_call=2).limit > 1:
        connect()
    for _ in range(3):
        connect()
    assert find_connection_limit(connection, per_call=2).limit == 1


def test_a_busy_server_gives_one_connection(connection, connect):
    while find_connection_limit(connection).limit > 1:
        connect()
    for _ in range(3):
        connect()
    assert find_connection_limit(connection).limit == 1
    assert find_connection_limit(connection, 100).limit > 1


def test_other_sessions_are_subtracted(connection, connect):
    before = find_connection_limit(connection).limit
    for _ in range(3):
        connect()
    assert find_connection_limit(connection).limit == before - 3


@pytest.fixture
def guest(connection, connect):
    connection.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 3")
    yield connect(user="guest", password="guest")
    connection.execute("DROP ROLE guest")


def test_the_limit_of_the_role_counts(guest):
    budget = find_connection_limit(guest)
    assert budget.limit == 2
    assert "role 2 (3 - 1 in use)" in str(budget)


def test_the_limit_of_the_database_counts(connection, guest):
    connection.execute(f"ALTER DATABASE {connection.info.dbname} CONNECTION LIMIT 3")
    budget = find_connection_limit(guest)
    assert budget.limit == 1
    assert "database 1 (3 - 2 in use)" in str(budget)


def test_connections_of_the_task_are_subtracted(guest, connect):
    budget = find_connection_limit(guest, task_connections=1)
    assert "role 1 (3 - 1 in use - 1 for the task)" in str(budget)
    for _ in range(budget.limit):
        connect(user="guest", password="guest")
    assert connect(user="guest", password="guest").execute("SELECT 1").fetchone() == (1,)


def test_no_free_connection_is_not_a_permanent_error(guest, connect):
    for _ in range(2):
        connect(user="guest", password="guest")
    with pytest.raises(BurlaProviderError, match=r"no available connection.*role 0") as error:
        find_connection_limit(guest)
    assert not isinstance(error.value, InvalidParameterError)


def test_one_free_connection_does_not_suffice_for_a_call_that_opens_two(guest, connect):
    connect(user="guest", password="guest")
    assert find_connection_limit(guest).limit == 1
    with pytest.raises(BurlaProviderError, match=r"too few available connections for a call, which opens 2: .*role 1"):
        find_connection_limit(guest, per_call=2)


def test_a_number_of_workers_is_positive(connection):
    with pytest.raises(InvalidParameterError, match="max_parallelism"):
        find_connection_limit(connection, 0)


def test_each_slot_is_taken_once(connect):
    assert [take_slot(connect(), 2) for _ in range(3)] == [True, True, False]


def test_a_slot_is_free_again_when_its_connection_closes(connect, connection):
    holder, waiting = connect(), connect()
    assert take_slot(holder, 1)
    holder.close()
    while count_taken_slots(connection):
        pass
    assert take_slot(waiting, 1)


def test_taken_slots_do_not_reduce_the_number_of_slots(connect, connection):
    free = find_connection_limit(connection)
    for _ in range(3):
        assert take_slot(connect(), free.slots)
    now = find_connection_limit(connection)
    assert (now.limit, now.slots) == (free.limit - 3, free.slots)


@pytest.mark.parametrize(("slots", "is_kept"), [(None, True), (1, True), (0, False)])
def test_all_locks_of_a_session_are_released_but_its_slot(connect, slots, is_kept):
    one, other = connect(), connect()
    if slots:
        assert take_slot(one, slots)
    one.execute("SELECT pg_advisory_lock(17)")
    assert release_locks_except_slot(one, slots) is is_kept
    assert other.execute("SELECT pg_try_advisory_lock(17)").fetchone() == (True,)
    assert take_slot(other, 1) is not bool(slots)
