"""Plain data keeps its value and type across the pipe, and no bytes make anything else."""

import math
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.sandbox.inside.plain import MalformedError, NotPlainError, decode, encode

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(exclude_categories=())),  # halves of characters among them
    st.binary(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(ATOMS, inner),
        st.sets(ATOMS),
        st.frozensets(ATOMS),
        st.lists(inner).map(deque),
    ),
    max_leaves=8,
)


def refuse(*_):
    raise NotPlainError("no plain data")


def carried(value):
    return decode(encode(value, 2**20, refuse), refuse)


def typed(value):
    """A value with the types of all that it holds: 1, 1.0 and True are three."""
    if isinstance(value, dict):
        return type(value), [(typed(key), typed(each)) for key, each in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), [typed(each) for each in value]
    if isinstance(value, set | frozenset):
        return type(value), {(type(each), each) for each in value}
    return type(value), value


@given(VALUES)
def test_a_value_arrives_as_it_was(value):
    assert typed(carried(value)) == typed(value)


@pytest.mark.parametrize(
    "value",
    [
        range(3, 9, 2),
        bytearray(b"a"),
        Counter("abca"),
        OrderedDict([(2, 1), (1, 2)]),
        datetime(2024, 2, 29, 1, 2, 3, 4),
        date(1, 1, 1),
        timedelta(-1, 2, 3),
        Decimal("1.10"),
        Fraction(-1, 3),
        -(2**70000),
        deque([1, 2], maxlen=2),
        -0.0,
        math.inf,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_the_library_arrives_as_it_was(value):
    assert (type(carried(value)), carried(value)) == (type(value), value)


def test_numbers_that_are_none_and_views_arrive():
    assert math.isnan(carried(math.nan))
    found = carried(({1: 2}.keys(), {1: 2}.values(), {1: 2}.items()))
    assert [list(each) for each in found] == [[1], [2], [(1, 2)]]
    assert found[0] == {1}
    assert carried(defaultdict(None, {1: 2})) == {1: 2}


@given(st.binary())
def test_any_bytes_are_a_value_or_malformed(data):
    with suppress(MalformedError):
        decode(data, refuse)


@given(VALUES, st.data())
def test_changed_bytes_are_a_value_or_malformed(value, data):
    encoded = bytearray(encode(value, 2**20, refuse))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    with suppress(MalformedError):
        decode(bytes(encoded), refuse)


@pytest.mark.parametrize("base", [int, float, str, bytes, list, tuple, dict, set, frozenset])
def test_an_instance_of_a_subclass_arrives_as_its_base(base):
    class Any(base):
        def __eq__(self, other):
            return True

        __hash__ = None

        def __len__(self):
            return 3

        def __str__(self):
            return "b"

    assert type(carried(Any())) is base
    assert carried(Any()) == base()


def test_what_is_too_large_or_too_deep_is_no_plain_data():
    deep = []
    for _ in range(101):
        deep = [deep]
    with pytest.raises(NotPlainError, match="nested more than 100 deep"):
        carried(deep)
    with pytest.raises(NotPlainError, match="larger than 1 KiB"):
        encode("a" * 1025, 1024, refuse)
    with pytest.raises(NotPlainError, match="no plain data"):
        carried([object()])
