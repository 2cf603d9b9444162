import pytest

from burla_provider.database.settings import NAME_LIMIT, Session, application_name
from burla_provider.exceptions import InvalidParameterError


def test_the_name_gives_way_to_the_range():
    name = application_name("d" * 100, " #12345")
    assert len(name) == NAME_LIMIT
    assert name.endswith("d #12345")


def test_what_the_server_would_not_print_is_replaced():
    assert application_name("täglich\n") == "t?glich?"


def test_only_limits_that_were_given_are_set():
    assert "timeout" not in Session("a").settings().as_string()


def test_seconds_are_sent_as_milliseconds():
    assert """SET LOCAL "statement_timeout" = '1500'""" in Session("a", statement_timeout=1.5).settings().as_string()


def test_a_tiny_limit_does_not_become_no_limit():
    assert """SET LOCAL "lock_timeout" = '1'""" in Session("a", lock_timeout=0.0001).settings().as_string()


def test_zero_is_no_limit():
    assert """"statement_timeout" = '0'""" in Session("a", statement_timeout=0).settings().as_string()


@pytest.mark.parametrize("seconds", [-1, 10_000_000])
def test_a_limit_out_of_range_is_refused(seconds):
    with pytest.raises(InvalidParameterError, match="lock_timeout"):
        Session("a", lock_timeout=seconds)
