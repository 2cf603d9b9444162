"""A DAG file with functions of many kinds, whose fingerprints must be equal in every process."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import logging
import operator
import re
import types
import typing

import pydantic

T = typing.TypeVar("T")
LOG = logging.getLogger(__name__)
SETS = {frozenset({"a", "b"}), frozenset({"c", "d"}), frozenset({"e", "f"})}
MIXED = {("a", frozenset({"x", "y", "z"})), ("b", frozenset({"x", "w"})), 1, None}
CONTEXT = decimal.Context(prec=5)
VALUES = {
    "set": {"one", "two", "three"},
    "pattern": re.compile("x"),
    "delta": datetime.timedelta(1),
    "counter": collections.Counter("abc"),
    "default": collections.defaultdict(set, a={"x", "y"}),
    "proxy": types.MappingProxyType({"a": 1}),
    "space": types.SimpleNamespace(a={"q", "w"}),
}


class Box(typing.Generic[T]):
    def __init__(self, value):
        self.value = value


class Boxes(Box[int]):
    pass


class Shape(typing.Protocol):
    def area(self): ...


@dataclasses.dataclass(slots=True, frozen=True)
class Point:
    x: int = 1
    y: list = dataclasses.field(default_factory=list)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Named(typing.NamedTuple):
    x: int


class Row(pydantic.BaseModel):
    number: int = 1

    @pydantic.field_validator("number")
    def double(cls, value):
        return 2 * value

    @pydantic.model_validator(mode="after")
    def check(self):
        return self


class Metered:
    __total = 0

    @property
    def total(self):
        return self.__total

    @classmethod
    def make(cls):
        return cls()

    @functools.cached_property
    def rate(self):
        return 2

    @functools.lru_cache  # noqa: B019
    def area(self):
        return 3


COLORS = {Color.RED, Color.BLUE}
CLASSES = {int, str, Point, Metered, Shape}


@functools.cache
def cached(value):
    return value


@contextlib.contextmanager
def opened():
    yield 1


@functools.singledispatch
def dispatched(value):
    return value


@dispatched.register
def _(value: int):
    return value + 1


def traced(function):
    @functools.wraps(function)
    def inner(*arguments, **named):
        return function(*arguments, **named)

    return inner


@traced
def decorated(value):
    return value


def work_class(row):
    return Box(row).value


def work_subclass(row):
    return Boxes(row).value


def work_type_variable(row):
    return typing.cast(T, row)


def work_protocol(row):
    return Shape


def work_dataclass(row):
    return Point(row).x


def work_enum(row):
    return Color(1)


def work_flag(row):
    return Rights.READ | Rights.WRITE


def work_named_tuple(row):
    return Named(row).x


def work_model(row):
    return Row(number=row).number


def work_logger(row):
    LOG.debug("%s", row)


def work_sets(row):
    return len(SETS)


def work_mixed_set(row):
    return len(MIXED)


def work_members(row):
    return len(COLORS)


def work_classes(row):
    return len(CLASSES)


def work_values(row):
    return len(VALUES)


def work_context(row):
    return CONTEXT.prec


def work_constant_set(row):
    return row in {"one", "two", "three", "four", "five"}


def work_cache(row):
    return cached(row)


def work_context_manager(row):
    with opened() as value:
        return value


def work_dispatch(row):
    return dispatched(row)


def work_decorator(row):
    return decorated(row)


def work_partial(row):
    return functools.partial(cached, row)()


def work_operator(row):
    return operator.itemgetter(0)([row])


def work_methods(row):
    metered = Metered.make()
    return metered.total + metered.rate + metered.area()


def work_local_class(row):
    class Local:
        __slots__ = ("alpha", "beta", "gamma")
        rate = 3

        def __init__(self):
            self.beta = self.alpha = self.gamma = row

    return Local().alpha


def work_local_class_with_attributes(row):
    class Local:
        def __init__(self):
            self.one = self.two = self.three = self.four = self.five = row

    return Local().one


def work_generator(row):
    return [value for value in (number for number in range(3)) if value]


def work_exception(row):
    try:
        return 1 / row
    except ZeroDivisionError as error:
        return str(error)
    finally:
        del row


def work_match(row):
    match row:
        case {"key": value}:
            return value
        case [first, *_]:
            return first
        case _:
            return row


def work_format(row):
    return f"{row!r:>4}"


def work_lambda(row):
    return (lambda x, *, y=1: x + y)(row)


def work_closure(row):
    count = row

    def add():
        nonlocal count
        count += 1
        return count

    return add()


def work_async(row):
    async def read():
        async with opened() as value:
            yield value

    return read


def work_loop(row):
    total = 0.0
    for number in range(row % 5):
        if number in (1, 2) and number is not None:
            continue
        total += number * 1.5
    return total


def work_keywords(row):
    return datetime.timedelta(days=row % 9, hours=1).days


def work_subscript(row):
    return [row, row + 1][:1], {"a": row}["a"]


def work_unpack(row):
    first, *_ = (row, 1, 2)
    return first


def work_attribute(row):
    return Metered().total


def work_annotated(row: int, other: typing.Any = None) -> int | None:
    return row


def work_defaults(row, *, names=frozenset({"a", "b", "c"})):
    return len(names)


def work_global(row):
    return len(__name__) > 0


def work_while(row):
    while row > 10:
        row //= 2
    return row
