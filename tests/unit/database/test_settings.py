import pytest

from burla_provider.database.settings import NAME_LIMIT, SessionSettings, application_name
from burla_provider.exceptions import InvalidParameterError


def test_the_name_gives_way_to_the_range():
    name = application_name("d" * 100, " #12345")
    assert len(name) == NAME_LIMIT
    assert name.endswith("d #12345")


def test_what_the_server_would_not_print_is_replaced():
    assert application_name("täglich\n") == "t?glich?"


def test_only_limits_that_were_given_are_set():
    assert "timeout" not in SessionSettings("a").transaction_sql().as_string()


def test_seconds_are_sent_as_milliseconds():
    assert (
        """SET LOCAL "statement_timeout" = '1500'"""
        in SessionSettings("a", statement_timeout=1.5).transaction_sql().as_string()
    )


def test_a_tiny_limit_does_not_become_no_limit():
    assert (
        """SET LOCAL "lock_timeout" = '1'""" in SessionSettings("a", lock_timeout=0.0001).transaction_sql().as_string()
    )


def test_zero_is_no_limit():
    assert """"statement_timeout" = '0'""" in SessionSettings("a", statement_timeout=0).transaction_sql().as_string()


@pytest.mark.parametrize("seconds", [-1, 10_000_000])
def test_a_limit_out_of_range_is_refused(seconds):
    with pytest.raises(InvalidParameterError, match="lock_timeout"):
        SessionSettings("a", lock_timeout=seconds)
