"""A test is told what its names mean: the program's, the library's, its own."""

import pytest

from avr.sandbox.prepare import prepare


def prepared(test, setup=""):
    _, (found,) = prepare([test], setup)
    return found


def test_names_of_the_program_are_those_that_nothing_else_binds():
    test = "import re\ny = [g(x) for x in f(3)]\ndef h(z): return k(z)\nassert h(y) == len(y)"
    assert prepared(test).names == ("f", "g", "k")


def test_what_the_set_up_code_binds_is_not_the_program_s():
    found = prepared("assert isclose(f(root), 1)", "from math import isclose\nroot = Node(1)")
    assert found.names == ("Node", "f")
    assert prepare(["f(1)"], "from math import isclose\nroot = Node(1)")[0] == (
        "from math import isclose"
    )


def test_a_module_of_the_library_that_is_not_imported_is_the_true_one():
    found = prepared("assert math.isclose(f(1), math.pi)")
    assert found.modules == {"math": ("isclose", "pi")}
    assert prepared("assert copy(f(1)) == copy(2)").modules == {}


def test_a_builtin_s_name_is_the_program_s_where_the_test_names_nothing_else():
    assert prepared("assert sum(10, 15) == 6").names == ("sum",)
    assert prepared("assert len(filter([1])) == 2").names == ("filter",)
    assert prepared("assert sum(f(3)) == 6").names == ("f",)


def test_an_assertion_shows_the_side_that_asks_the_program():
    assert "__shown__.equal('f(3)', False, f(3), 5)" in prepared("assert f(3) == 5").source
    assert "__shown__.equal('f(3)', True, 5, f(3))" in prepared("assert 5 == f(3)").source
    assert "__shown__.true('f(3) > 5', f(3) > 5), 'small'" in (
        prepared("assert f(3) > 5, 'small'").source
    )


@pytest.mark.parametrize("test, setup", [("assert f(3", ""), ("f(3)", "1 +"), ("f\0", "")])
def test_what_is_no_python_is_refused(test, setup):
    with pytest.raises(ValueError, match="is no Python"):
        prepare([test], setup)
