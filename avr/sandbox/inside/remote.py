"""Stand for the program's objects on the trusted side, where tests are evaluated.

A call sends plain data and gets plain data. What is no plain data stays with the program; a
`Remote` stands for it. No operation of a Remote sends what a result is compared with: it equals
nothing, it has no arithmetic, and `in` and loops fetch its items and compare them here.
"""

from __future__ import annotations

import builtins

from avr.sandbox.inside.plain import NotPlainError, decode, encode
from avr.sandbox.inside.served import standard_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

NO_VALUE = "sent bytes that are no value"
_MOST_REQUEST = 2**28
_PLAIN = (str, bytes, int, float, complex, list, tuple, dict, set)
# Where a test means a method of plain data, as in `f(x).startswith("ab")`, an object that a call
# returned must not answer in its place: it would see "ab" and say yes.
_PLAIN_NAMES = {name for kind in _PLAIN for name in dir(kind)}


class UnsupportedError(Exception):
    """Signal a test that would have to take the program's word."""


class ProgramError(Exception):
    """Stand for an exception that the program raised, where no builtin class does."""


class EndedError(BaseException):
    """Signal that the program's process is gone or out of time; no test goes on."""


class Session:
    """Hold the conversation with one process of the program.

    `ask` sends a request and returns the reply. `ended` says why there will be no more, "" while
    there is one. `raised` is the last exception that the program raised, and how its process
    described it: name of its class, message, line number, source line.
    """

    def __init__(self, ask: Callable[[bytes], bytes]):
        self._ask = ask
        self.ended = ""
        self.closed = False
        self.raised: tuple[BaseException, tuple[str, str, int, str]] | None = None

    def end(self, why: str) -> NoReturn:
        """Raise EndedError, now and whenever the program is asked again."""
        self.ended = self.ended or why
        raise EndedError

    def load(self, prelude: str, program: str) -> None:
        """Have the process run the program. Raises what the program raises, or EndedError."""
        self._read(self._ask(encode((prelude, program), _MOST_REQUEST, self._sent)), False)

    def do(self, what: str, *operands: Any, returned: bool = True) -> tuple[Any, Any]:
        """Have the process do one thing: (result, changed arguments by their place)."""
        if self.closed:
            raise UnsupportedError("the test is over")
        if self.ended:
            raise EndedError
        try:
            request = encode((what, *operands), _MOST_REQUEST, self._sent)
        except NotPlainError as error:
            raise UnsupportedError(f"an argument is {error}") from None
        return self._read(self._ask(request), returned)

    def call(
        self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any], returned: bool
    ) -> Any:
        """Call a function of the program; what it changes in its arguments is changed here."""
        result, changed = self.do("call", function, list(arguments), named, returned=returned)
        given = dict(enumerate((*arguments, *named.values())))
        for at, now in changed:
            if at not in given:
                self.end(NO_VALUE)
            _change(given[at], now)
        return result

    def _read(self, reply: bytes, returned: bool) -> tuple[Any, Any]:
        try:
            succeeded, *rest = decode(reply, lambda *sent: self._received(returned, *sent))
            if succeeded is True:
                result, changed = rest
                return result, [(int(at), now) for at, now in changed]
            names, message, line, source = rest
            error = _exception([str(name) for name in names], str(message))
            self.raised = error, (str(names[0]), str(message), int(line), str(source))
        except Exception:  # bytes of an enemy, also too many for this process's memory
            self.end(NO_VALUE)
        raise error

    def named(self, name: str) -> Any:
        """Fetch what a top-level name of the program means now. Raises NameError."""
        value, _ = self.do("name", name, returned=False)
        return Remote(self, "name", name, name, False) if type(value) is Remote else value

    def _received(self, returned: bool, kind: str, *what: Any) -> Any:
        if kind == "standard":  # only what is compared by identity: no function of the harness
            module, _, name = str(what[0]).partition(":")
            found = getattr(builtins, name, None) if module == "builtins" else None
            return found if type(found) is type else Remote(self, kind, what[0], name, True)
        number, name = what
        return Remote(self, "object", int(number), str(name), returned)

    def _sent(self, value: Any) -> tuple[Any, ...]:
        if type(value) is Remote:
            return value._Remote__reference  # type: ignore[no-any-return]
        if name := standard_name(value):
            return "standard", name
        raise NotPlainError(f"{type(value).__name__}, which cannot be given to a program")


class Remote:
    """Stand for one object of the program.

    `returned` says that a call gave it, other than of a class (a capital first letter).
    """

    __slots__ = ("__name", "__reference", "__returned", "__session")

    def __init__(self, session: Session, kind: str, what: Any, name: str, returned: bool):
        object.__setattr__(self, "_Remote__session", session)
        object.__setattr__(self, "_Remote__reference", (kind, what))
        object.__setattr__(self, "_Remote__name", name)
        object.__setattr__(self, "_Remote__returned", returned)

    def __do(self, what: str, *operands: Any) -> Any:
        return self.__session.do(what, self, *operands)[0]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the object with plain data, and objects of the program."""
        kind, name = self.__reference
        made = kind == "name" and name[:1].isupper()
        return self.__session.call(self, arguments, named, not made)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (self.__returned and name in _PLAIN_NAMES):
            raise AttributeError(f"{self.__name!r} object: {name!r} is no attribute to ask it for")
        return self.__do("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__do("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self.__do("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__do("set item", key, value)

    def __iter__(self) -> Iterator[Any]:
        found: Iterator[Any] = self.__do("iterate")
        return found if type(found) is Remote else iter(found)

    def __next__(self) -> Any:
        return self.__do("next")

    def __len__(self) -> int:
        return int(self.__do("length"))

    def __bool__(self) -> bool:
        return self.__do("truth") is True

    def __str__(self) -> str:
        return str(self.__do("text"))

    def __repr__(self) -> str:
        if self.__session.closed:
            return f"<{self.__name} object>"
        return str(self.__do("repr"))

    def __eq__(self, other: object) -> bool:
        if type(other) is Remote:
            raise UnsupportedError(
                "compares two objects of the program: it would say what is equal"
            )
        return False

    def __hash__(self) -> int:
        return id(self)


def _exception(names: list[str], message: str) -> BaseException:
    """Make an exception of the first builtin class among the names, so that tests can catch it."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            error: BaseException = kind.__new__(kind)
            error.args = (message,)
            return error
    return ProgramError(message)


def _change(old: Any, new: Any) -> Any:
    """Make a mutable value equal to another in place, as deep as both have the same form."""
    if type(old) is not type(new):
        return new  # a change of a number or a text: only in a container
    if isinstance(old, list | tuple):
        merged = [_change(was, now) for was, now in zip(old, new, strict=False)]
        if isinstance(old, tuple):
            return old if len(old) == len(new) else new
        old[:] = [*merged, *new[len(merged) :]]
    elif isinstance(old, dict):
        merged_items = {key: _change(old.get(key), now) for key, now in new.items()}
        old.clear()
        old.update(merged_items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif hasattr(old, "extend"):  # bytearray, deque
        old.clear()
        old.extend(new)
    else:
        return new
    return old
