"""Encode plain data as bytes, and decode bytes that an enemy may have written.

A value is a tag of one byte and its content. Only the types below exist in this form, so decoding
makes nothing but plain data: no code runs, an instance of a subclass arrives as its plain base, and
an `__eq__` of its own is left behind. Lengths are checked against what is there, depth against
`MOST_DEPTH`.
"""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MOST_DEPTH = 100  # Python's own repr gives up at some 300
_LENGTH, _DOUBLE = struct.Struct("<I"), struct.Struct("<d")
_VIEWS: dict[type, bytes] = {
    type({}.keys()): b"K",
    type({}.values()): b"V",
    type({}.items()): b"I",
}
# Types of the standard library: tag -> module, name, and the arguments that make an equal value.
# A class stands before its own base.
_MADE: dict[bytes, tuple[str, str, Callable[[Any], Any]]] = {
    b"o": (
        "datetime",
        "datetime",
        lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond),
    ),
    b"a": ("datetime", "date", lambda v: (v.year, v.month, v.day)),
    b"e": ("datetime", "timedelta", lambda v: (v.days, v.seconds, v.microseconds)),
    b"m": ("datetime", "time", lambda v: (v.hour, v.minute, v.second, v.microsecond)),
    b"x": ("decimal", "Decimal", lambda v: (str(v),)),
    b"y": ("fractions", "Fraction", lambda v: (v.numerator, v.denominator)),
    b"q": ("collections", "deque", lambda v: (list(v), v.maxlen)),
    b"C": ("collections", "Counter", lambda v: (dict(v),)),
    b"O": ("collections", "OrderedDict", lambda v: (list(v.items()),)),
    b"D": ("collections", "defaultdict", lambda v: (_class_or_none(v.default_factory), dict(v))),
}
_FLAT: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}
# How to copy the content of a subclass's instance past the methods that it overrides.
_BASES: dict[type, Callable[[Any], Any]] = {
    int: lambda v: int.__add__(v, 0),
    float: lambda v: float.__mul__(v, 1.0),
    complex: complex.__pos__,
    str: lambda v: str.__getitem__(v, slice(None)),
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
    bytearray: bytearray.copy,
    tuple: lambda v: tuple.__getitem__(v, slice(None)),
    list: lambda v: list.__getitem__(v, slice(None)),
    dict: dict.copy,
    set: set,
    frozenset: frozenset,
}


class NotPlainError(Exception):
    """Signal a value that cannot be encoded: too large, too deep, or of another type."""


class MalformedError(Exception):
    """Signal bytes that encode no value."""


def encode(value: Any, most: int, other: Callable[[Any], Any]) -> bytes:
    """Encode a value in at most `most` bytes.

    `other` gives, for an object that is not plain data, the plain tuple that stands for it, or
    raises NotPlainError. Raises NotPlainError for a value that is too large or too deep.
    """
    out = bytearray()
    _Writer(out, most, other).write(value, 0)
    return bytes(out)


def _sized(tag: bytes, content: bytes) -> bytes:
    return tag + _LENGTH.pack(len(content)) + content


def _class_or_none(factory: Any) -> Any:
    return factory if type(factory) is type else None


_SIMPLE: dict[type, Callable[[Any], bytes]] = {
    int: lambda v: _sized(b"i", v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True)),
    float: lambda v: b"f" + _DOUBLE.pack(v),
    complex: lambda v: b"c" + _DOUBLE.pack(v.real) + _DOUBLE.pack(v.imag),
    str: lambda v: _sized(b"s", v.encode("utf-8", "surrogatepass")),
    bytes: lambda v: _sized(b"b", v),
    bytearray: lambda v: _sized(b"B", bytes(v)),
}
_TAGS = _FLAT | _VIEWS


class _Writer:
    def __init__(self, out: bytearray, most: int, other: Callable[[Any], Any]):
        self._out, self._most, self._other = out, most, other
        # What has not been imported here has no instances here.
        self._made = {
            getattr(sys.modules[module], name): (tag, arguments)
            for tag, (module, name, arguments) in _MADE.items()
            if module in sys.modules and hasattr(sys.modules[module], name)
        }

    def write(self, value: Any, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise NotPlainError(f"nested more than {MOST_DEPTH} deep")
        if value is None or value is True or value is False:
            self._out += {None: b"N", True: b"T", False: b"F"}[value]
        else:
            self._write(type(value), value, depth)
        if len(self._out) > self._most:
            raise NotPlainError(f"larger than {self._most // 1024} KiB")

    def _write(self, kind: type, value: Any, depth: int) -> None:
        if kind in _SIMPLE:
            self._out += _SIMPLE[kind](value)
        elif kind in _TAGS:
            self._items(_TAGS[kind], value, depth)
        elif kind is dict:
            self._items(b"d", (each for pair in value.items() for each in pair), depth, len(value))
        elif kind is range:
            self._items(b"r", (value.start, value.stop, value.step), depth)
        elif kind in self._made and not getattr(value, "tzinfo", None):
            tag, arguments = self._made[kind]
            self._items(tag, arguments(value), depth)
        else:
            self._reduce(value, depth)

    def _items(self, tag: bytes, items: Iterable[Any], depth: int, number: int = -1) -> None:
        if number < 0:
            items = tuple(items)
            number = len(items)
        self._out += tag + _LENGTH.pack(number)
        for item in items:
            self.write(item, depth + 1)

    def _reduce(self, value: Any, depth: int) -> None:
        for kind in (*self._made, *_BASES):
            if isinstance(value, kind) and not getattr(value, "tzinfo", None):
                content = _BASES[kind](value) if kind in _BASES else value
                return self._write(kind, content, depth)
        self._items(b"h", self._other(value), depth)
        return None


def decode(data: bytes, other: Callable[..., Any]) -> Any:
    """Decode a value; `other` makes the object that a tuple of `encode`'s `other` stands for.

    Raises MalformedError for any bytes that `encode` would not write.
    """
    reader = _Reader(data, other)
    try:
        value = reader.read(0)
    except MalformedError:
        raise
    except Exception as error:  # whatever constructors refuse
        raise MalformedError(f"{type(error).__name__}: {error}") from None
    if not reader.at_end():
        raise MalformedError("bytes after the value")
    return value


def _view(tag: bytes, items: list[Any]) -> Any:
    """Make the keys, values or items of a dict."""
    if tag == b"V":
        return dict(enumerate(items)).values()
    made = {}
    for item in items:
        key, value = (item, None) if tag == b"K" else item
        made[key] = value
    return made.keys() if tag == b"K" else made.items()


class _Reader:
    def __init__(self, data: bytes, other: Callable[..., Any]):
        self._data, self._at, self._other = data, 0, other

    def at_end(self) -> bool:
        return self._at == len(self._data)

    def _take(self, number: int) -> bytes:
        if number > len(self._data) - self._at:
            raise MalformedError("ends too early")
        self._at += number
        return self._data[self._at - number : self._at]

    def _sized(self) -> bytes:
        return self._take(_LENGTH.unpack(self._take(4))[0])

    def _items(self, depth: int, each: int = 1) -> list[Any]:
        number = _LENGTH.unpack(self._take(4))[0] * each
        if number > len(self._data) - self._at:  # an item has a byte at least
            raise MalformedError("says that it holds more than there is")
        return [self.read(depth + 1) for _ in range(number)]

    def read(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise MalformedError(f"nested more than {MOST_DEPTH} deep")
        tag = self._take(1)
        if tag in b"NTF":
            return {b"N": None, b"T": True, b"F": False}[tag]
        if tag in b"isbB":
            return self._text(tag, self._sized())
        if tag == b"f":
            return _DOUBLE.unpack(self._take(8))[0]
        if tag == b"c":
            return complex(*(_DOUBLE.unpack(self._take(8))[0] for _ in range(2)))
        return self._container(tag, self._items(depth, 2 if tag == b"d" else 1))

    def _text(self, tag: bytes, content: bytes) -> Any:
        if tag == b"i":
            return int.from_bytes(content, "little", signed=True)
        if tag == b"s":
            return content.decode("utf-8", "surrogatepass")
        return content if tag == b"b" else bytearray(content)

    def _container(self, tag: bytes, items: list[Any]) -> Any:
        if tag in b"lt":
            return items if tag == b"l" else tuple(items)
        if tag in b"SZ":
            # One by one, so that an alarm can end it: 80,000 equal hashes take a minute.
            members = set()
            for item in items:
                members.add(item)
            return members if tag == b"S" else frozenset(members)
        if tag == b"d":
            pairs = {}
            for at in range(0, len(items), 2):
                pairs[items[at]] = items[at + 1]
            return pairs
        if tag == b"r":
            return range(*items)
        if tag in b"KVI":
            return _view(tag, items)
        if tag in _MADE:
            module, name, _ = _MADE[tag]
            return getattr(__import__(module), name)(*items)
        if tag == b"h":
            return self._other(*items)
        raise MalformedError(f"unknown tag {tag!r}")
