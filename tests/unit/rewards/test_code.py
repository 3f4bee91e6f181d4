"""The reward of a program: where it is in an answer, and what its tests come to.

The sandbox itself has tests of its own; here nothing runs.
"""

import asyncio

import pytest

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig, RewardKind
from avr.config.sandbox import Isolation, SandboxConfig
from avr.core.messages import user
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards import code
from avr.rewards.code import Code
from avr.rewards.program import program_of
from avr.sandbox.job import SandboxError
from avr.sandbox.verdict import Result, TestOutcome
from avr.sandbox.verdict import Verdict as Found

F, G = "def f(x):\n    return x\n", "class G:\n    pass\n"
PROGRAMS = [
    (f"```python\n{F}```", F),
    (f"Here it is:\n\n```py\n{F}```\nIt returns x.", F),
    (f"```Python3\n{F}```", F),
    (f"```\n{F}```", F),
    (f"~~~python\n{F}~~~", F),
    (f"  ```python\n{F}  ```", F),
    (f"```python\n{F}```\nOr:\n```python\n{G}```", G),
    (f"```python\nasync {F}```", f"async {F}"),
    # A block that only calls it is no program where another one defines something.
    (f"```python\n{F}```\nCall it so:\n```python\nprint(f(1))\n```", F),
    (f"```python\n{F}```\nThe output:\n```\n1\n```", F),
    ("```python\nprint(1)\n```", "print(1)\n"),
    # Cut off, or without a fence.
    (f"```python\n{F}", F),
    (F, F),
    (f"import os\n\n{F}", f"import os\n\n{F}"),
    # What is no program.
    ("", None),
    ("def f is what you want", None),
    ("x = 1", None),
    (f"Sure, here you are.\n{F}", None),
    ("Use `f(x)`.", None),
]


@pytest.mark.parametrize(("answer", "program"), PROGRAMS)
def test_the_program_of_an_answer(answer, program):
    assert program_of(answer) == program


PROMPT = Prompt.of((user("f?"),), source="here:3", tests=("t1", "t2", "t3", "t4"), setup="s")
JUDGE = Code.of("code", JudgingConfig(RewardKind.code, sandbox=SandboxConfig(wall_s=3.0)))


def scored(monkeypatch, answer, *results):
    """The verdict where the tests end so, and what was run."""
    ran = []

    async def run_tests(*asked):
        ran.append(asked)
        (first, *_) = results
        if isinstance(first, Exception):
            raise first
        return Found(tuple(TestOutcome(r, message=f"{r.value} {n}") for n, r in enumerate(results)))

    monkeypatch.setattr(code, "run_tests", run_tests)
    return asyncio.run(JUDGE.score(PROMPT, answer)), ran


def test_the_reward_is_the_share_of_tests_and_the_words_are_of_the_first_that_did_not_pass(
    monkeypatch,
):
    results = (Result.passed, Result.error, Result.timeout, Result.passed)
    verdict, ran = scored(monkeypatch, f"```python\n{F}```", *results)
    assert verdict == Verdict("code", 0.5, "error 1")
    assert ran == [(F, PROMPT.tests, "s", JUDGE.sandbox)]
    verdict, _ = scored(monkeypatch, F, *[Result.passed] * 4)
    assert verdict == Verdict("code", 1.0, "")
    verdict, _ = scored(monkeypatch, F, *[Result.killed] * 4)
    assert verdict == Verdict("code", 0.0, "killed 0")


def test_an_answer_without_a_program_gets_nothing_and_nothing_runs(monkeypatch):
    verdict, ran = scored(monkeypatch, "I would use a loop.", Result.passed)
    assert (verdict, ran) == (Verdict("code", 0.0, "There is no program in the answer."), [])


def test_tests_that_are_no_python_are_the_fault_of_their_row_and_a_broken_sandbox_everybodys(
    monkeypatch,
):
    with pytest.raises(TreeFault, match="here:3: test 1 is no Python"):
        scored(monkeypatch, F, ValueError("test 1 is no Python"))
    with pytest.raises(SandboxError, match="no bubblewrap"):
        scored(monkeypatch, F, SandboxError("no bubblewrap"))


def test_rows_without_tests_and_machines_without_a_sandbox_are_refused_before_anything_starts(
    monkeypatch,
):
    with pytest.raises(
        ConfigError, match=r"prompts\.rsft\.tests_field is not set: the reward 'code' needs that"
    ):
        JUDGE.check(PromptsConfig(), "prompts.rsft")

    def broken(config):
        raise SandboxError("nothing isolates programs here")

    monkeypatch.setattr(code, "resolve", broken)
    with pytest.raises(ConfigError, match="nothing isolates programs here"):
        JUDGE.check(PromptsConfig(tests_field="tests"), "prompts.rsft")
    monkeypatch.setattr(code, "resolve", lambda _: SandboxConfig(Isolation.namespaces))
    JUDGE.check(PromptsConfig(tests_field="tests"), "prompts.rsft")
    assert JUDGE.exact and JUDGE.record() == {"isolation": "namespaces"}
