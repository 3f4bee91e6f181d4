"""Run a program in its own process, and do to its objects what the harness asks for.

Nothing here is trusted: the program shares this process and may change all of it. What it sends is
a value, never a verdict. It learns the arguments of calls, and no expected value.
"""

from __future__ import annotations

import builtins
import sys

from avr.sandbox.inside.plain import NotPlainError, decode, encode
from avr.sandbox.inside.wire import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILE = "<program>"
_NAME = "program"  # of the module: what stands under `if __name__ == "__main__"` is not run
_MOST_REQUEST = 2**28
_MOST_TEXT = 500  # characters of an exception's message
compile("", FILE, "exec")  # the first one takes 4 ms, which every test's process would spend


def serve(channel: int, most: int) -> None:
    """Run the program that comes first, then answer requests until the harness is gone."""
    prelude, program = decode(receive(channel, _MOST_REQUEST), lambda *_: None)
    served = _Served(prelude, program, most)
    send(channel, served.answer(served.load))
    while True:
        request = receive(channel, _MOST_REQUEST)
        send(channel, served.answer(lambda: served.do(*decode(request, served.meant))))  # noqa: B023


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "item": lambda owner, key: owner[key],
    "set item": lambda owner, key, value: owner.__setitem__(key, value),
    "iterate": iter,
    "next": next,
    "length": len,
    "truth": bool,
    "text": str,
    "repr": repr,
}


class _Served:
    def __init__(self, prelude: str, program: str, most: int):
        self._prelude, self._program, self._most = prelude, program, most
        self._module = type(sys)(_NAME)
        self._objects: list[Any] = []
        sys.modules[_NAME] = self._module
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # site's, which costs 10 ms

    def load(self) -> tuple[None, tuple[()]]:
        """Run the program; first what it and its tests import."""
        exec(self._prelude, self._module.__dict__)
        exec(compile(self._program, FILE, "exec"), self._module.__dict__)
        return None, ()

    def do(self, what: str, *operands: Any) -> tuple[Any, tuple[tuple[int, Any], ...]]:
        """Do one thing: its result, and the arguments that it has changed, by their place."""
        if what == "call":
            return self._call(*operands)
        if what == "name":
            return self._named(*operands), ()
        return _OPERATIONS[what](*operands), ()

    def _named(self, name: str) -> Any:
        if name not in self._module.__dict__:
            raise NameError(f"name {name!r} is not defined")
        return self._module.__dict__[name]

    def _call(
        self, function: Any, arguments: list[Any], named: dict[str, Any]
    ) -> tuple[Any, tuple[tuple[int, Any], ...]]:
        given = [*arguments, *named.values()]
        before = [self._encoded(each) for each in given]
        result = function(*arguments, **named)
        after = enumerate(zip(given, before, strict=True))
        return result, tuple((at, now) for at, (now, was) in after if self._encoded(now) != was)

    def _encoded(self, value: Any) -> bytes:
        return encode(value, _MOST_REQUEST, lambda other: (id(other),))

    def meant(self, kind: str, what: Any) -> Any:
        """Find the object that the harness means."""
        if kind == "name":
            return self._named(what)
        if kind == "object":
            return self._objects[what]
        return standard(what)

    def answer(self, work: Callable[[], tuple[Any, Any]]) -> bytes:
        """Encode what some work gives or raises."""
        try:
            return encode((True, *work()), self._most, self._other)
        except BaseException as error:
            return encode((False, *_described(error, self._program)), self._most, str)

    def _other(self, value: Any) -> tuple[Any, ...]:
        name = standard_name(value)
        if name:
            return "standard", name
        self._objects.append(value)
        return "object", len(self._objects) - 1, type(value).__name__


def standard_name(value: Any) -> str:
    """Name a class or function of the standard library, "" for anything else."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return ""
    named = module.partition(".")[0] in sys.stdlib_module_names or module == "builtins"
    try:
        return f"{module}:{name}" if named and standard(f"{module}:{name}") is value else ""
    except (ImportError, AttributeError):
        return ""


def standard(name: str) -> Any:
    """Find a class or function of the standard library by `standard_name`."""
    module, _, path = name.partition(":")
    found = __import__(module, fromlist=["_"])
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _described(error: BaseException, program: str) -> tuple[Any, ...]:
    """Describe an exception: names of its classes, message, last line of the program."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == FILE:
        line = error.lineno or 0
    names = tuple(each.__name__ for each in type(error).__mro__)
    try:
        message = str(error)[:_MOST_TEXT]
    except Exception:
        message = ""
    if isinstance(error, NotPlainError):
        message = f"the result is {message}"
    lines = program.splitlines()
    source = lines[line - 1].strip()[:200] if 0 < line <= len(lines) else ""
    return names, message, line, source
