"""Data that is not plain is reported with the call that converts it."""

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
def test_the_message_names_the_conversion_to_plain_data(value, advice):
    assert find_unserializable([value]).endswith(f" (use {advice}(x))")


def test_without_a_conversion_only_the_type_is_named():
    assert find_unserializable(object()) == "the return value is of type builtins.object"


def test_a_numpy_value_names_its_method():
    numpy = pytest.importorskip("numpy")
    assert find_unserializable(numpy.int64(1)).endswith("numpy.int64 (use int(x))")
    assert find_unserializable(numpy.array([1])).endswith("numpy.ndarray (use x.tolist())")
