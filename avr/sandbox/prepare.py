"""Prepare a row's tests: which names are the program's, and what a failed assertion shows.

Tests are the user's own text and trusted; they are parsed and changed here, in the caller's
process. The program is not looked at.
"""

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_BUILTIN = frozenset(dir(builtins))
_MOST_TEXT = 200  # characters of a call


@dataclass(frozen=True)
class Prepared:
    """Hold a test as the sandbox evaluates it.

    `names` are looked up in the program. `modules` are those of the standard library that the test
    uses without importing them, each with the attributes used: the program has imported them, but
    the test must have the true ones.
    """

    source: str
    names: tuple[str, ...]
    modules: dict[str, tuple[str, ...]]


def prepare(tests: Sequence[str], setup: str) -> tuple[str, tuple[Prepared, ...]]:
    """Prepare tests, each of which begins with the set-up code.

    Returns the set-up's own imports, which the program may rely on as well, and the tests. Raises
    ValueError for a test or set-up code that is no Python.
    """
    before = _parsed(setup, "the set-up code").body
    imports: list[ast.stmt] = [e for e in before if isinstance(e, ast.Import | ast.ImportFrom)]
    prelude = ast.unparse(ast.Module(imports, []))
    return prelude, tuple(_prepared(setup, test) for test in tests)


def _parsed(source: str, what: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no Python ({error}): {source[:_MOST_TEXT]!r}") from None


def _prepared(setup: str, test: str) -> Prepared:
    tree = _parsed(f"{setup}\n{test}", "a test, with its set-up code,")
    unbound = set(_unbound(symtable.symtable(ast.unparse(tree), "<test>", "exec")))
    names = unbound - _BUILTIN
    modules = {name: used for name in names if (used := _used_of_module(name, tree))}
    if not names - modules.keys():  # the program defines what has a builtin's name
        names |= _innermost(tree) & unbound
    tree = ast.fix_missing_locations(_Shown(names).visit(tree))
    return Prepared(ast.unparse(tree), tuple(sorted(names)), modules)


def _unbound(table: symtable.SymbolTable) -> Iterator[str]:
    """List the names that a test uses and does not bind."""
    top = table.get_type() == "module"
    bound = {each.get_name() for each in table.get_symbols() if top and _is_bound(each)}
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or top) and not _is_bound(symbol):
            yield symbol.get_name()
    for child in table.get_children():
        yield from (name for name in _unbound(child) if name not in bound)


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _used_of_module(name: str, tree: ast.AST) -> tuple[str, ...]:
    """List the attributes used of a module of the standard library; none if it is used bare."""
    if name not in sys.stdlib_module_names:
        return ()
    nodes = list(ast.walk(tree))
    used = [
        each.attr for each in nodes if isinstance(each, ast.Attribute) and _is(each.value, name)
    ]
    return tuple(used) if len(used) == sum(_is(each, name) for each in nodes) else ()


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _innermost(tree: ast.AST) -> set[str]:
    """List the names that are called with arguments in which nothing else is called."""
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    inner = [each for each in calls if sum(isinstance(n, ast.Call) for n in ast.walk(each)) == 1]
    return {each.func.id for each in inner if isinstance(each.func, ast.Name)}


class _Shown(ast.NodeTransformer):
    """Put what an assertion compares through `avr.sandbox.inside.shown`, in the same order."""

    def __init__(self, names: set[str]):
        self._names = names

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        """Change one assertion."""
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            left, right = test.left, test.comparators[0]
            flipped = self._asks(right) and not self._asks(left)
            call = right if flipped else left
            node.test = _shown("equal", call, ast.Constant(flipped), left, right)
        else:
            node.test = _shown("true", test, test)
        return node

    def _asks(self, node: ast.AST) -> bool:
        return any(isinstance(each, ast.Name) and each.id in self._names for each in ast.walk(node))


def _shown(method: str, described: ast.expr, *arguments: ast.expr) -> ast.Call:
    text = ast.unparse(described)
    text = text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."
    function = ast.Attribute(ast.Name("__shown__", ast.Load()), method, ast.Load())
    return ast.Call(function, [ast.Constant(text), *arguments], [])
