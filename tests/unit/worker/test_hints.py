"""What is no plain data is named with the call that makes plain data of it."""

from __future__ import annotations

import collections
import enum
from fractions import Fraction

import pytest

from burla_provider.worker.outcome import find_unserializable


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Number.ONE, "int"),
        (Fraction(1), "float"),
        (type("Name", (str,), {})(), "str"),
        (bytearray(), "bytes"),
        (collections.OrderedDict(), "dict"),
        ({1}, "list"),
        (iter([]), "list"),
    ],
)
def test_the_call_that_makes_plain_data_is_named(value, advice):
    assert find_unserializable([value]).endswith(f" (use {advice}(x))")


def test_what_cannot_be_turned_into_plain_data_is_only_named():
    assert find_unserializable(object()) == "the return value is of type builtins.object"


def test_a_value_of_numpy_names_its_own_method():
    numpy = pytest.importorskip("numpy")
    assert find_unserializable(numpy.int64(1)).endswith("numpy.int64 (use int(x))")
    assert find_unserializable(numpy.array([1])).endswith("numpy.ndarray (use x.tolist())")
