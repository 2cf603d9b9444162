import pytest

from burla_provider.database.settings import NAME_LIMIT, SessionSettings, application_name
from burla_provider.exceptions import InvalidParameterError


def test_a_long_name_is_cut_before_the_suffix():
    name = application_name("d" * 100, " #12345")
    assert len(name) == NAME_LIMIT
    assert name.endswith("d #12345")


def test_characters_outside_ascii_are_replaced():
    assert application_name("täglich\n") == "t?glich?"


def test_only_limits_that_were_given_are_set():
    assert "timeout" not in SessionSettings("a").transaction_sql().as_string()


def test_seconds_are_sent_as_milliseconds():
    assert (
        """SET LOCAL "statement_timeout" = '1500'"""
        in SessionSettings("a", statement_timeout=1.5).transaction_sql().as_string()
    )


def test_a_tiny_timeout_is_not_rounded_to_zero():
    assert (
        """SET LOCAL "lock_timeout" = '1'""" in SessionSettings("a", lock_timeout=0.0001).transaction_sql().as_string()
    )


def test_zero_is_no_limit():
    assert """"statement_timeout" = '0'""" in SessionSettings("a", statement_timeout=0).transaction_sql().as_string()


@pytest.mark.parametrize("seconds", [-1, 10_000_000])
def test_a_limit_out_of_range_is_refused(seconds):
    with pytest.raises(InvalidParameterError, match="lock_timeout"):
        SessionSettings("a", lock_timeout=seconds)
