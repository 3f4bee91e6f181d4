"""A function of the user's own as a reward: what it may return, and whose fault its errors are."""

import asyncio
import math
import threading

import pytest

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig, RewardKind
from avr.core.messages import user
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards.function import Function

PROMPT = Prompt.of((user("question"),), reference="ref", tests=("a test",), setup="setup")


def num_characters(prompt, answer):
    assert (prompt.reference, prompt.tests, prompt.setup) == ("ref", ("a test",), "setup")
    return len(answer)


async def half(prompt, answer):
    await asyncio.sleep(0)
    return 0.5


def right(prompt, answer):
    return True


def other_thread(prompt, answer):
    return float(threading.current_thread() is not threading.main_thread())


def no_code(prompt, answer):
    raise ValueError("the answer holds no code")


async def no_code_either(prompt, answer):
    raise ValueError("the answer holds no code")


def number_of(prompt, answer):
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(answer)


def words(prompt, answer):
    return "high"


def broken(prompt, answer):
    return {}["key"]


NOT_A_FUNCTION = 3


def function(name, **more):
    config = JudgingConfig(RewardKind.function, function=name, **more)
    return Function.of("mine", config)


def scored(name, answer="abc"):
    return asyncio.run(function(f"test_function:{name}").score(PROMPT, answer))


@pytest.mark.parametrize(
    ("name", "reward"), [("num_characters", 3.0), ("half", 0.5), ("right", 1.0)]
)
def test_a_function_or_a_coroutine_gives_the_reward(name, reward):
    verdict = scored(name)
    assert verdict == Verdict("mine", reward)
    assert isinstance(verdict.reward, float)


def test_a_plain_function_does_not_hold_up_the_others():
    assert scored("other_thread").reward == 1.0


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("no_code", "", "test_function:no_code: the answer holds no code"),
        ("no_code_either", "", "test_function:no_code_either: the answer holds no code"),
        ("number_of", "nan", "the reward function test_function:number_of returned nan"),
        ("number_of", "inf", "returned inf"),
        ("number_of", "-inf", "returned -inf"),
        ("number_of", "else", "test_function:number_of: .*NoneType"),
        ("words", "", "test_function:words: could not convert string to float: 'high'"),
    ],
)
def test_an_answer_that_gets_no_finite_number_is_left_out_with_the_reason(name, answer, words):
    with pytest.raises(TreeFault, match=words):
        scored(name, answer)


def test_any_other_error_is_everybodys():
    with pytest.raises(KeyError, match="key"):
        scored("broken")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "'no_such_module:f' is no module:function: No module named 'no_such"),
        ("test_function:nothing", "is no module:function: module 'test_function' has no attr"),
        ("test_function", "reward function 'test_function' is no module:function"),
        (":f", "reward function ':f' is no module:function: Empty module name"),
        ("test_function:NOT_A_FUNCTION", "'test_function:NOT_A_FUNCTION' is not a function"),
    ],
)
def test_a_function_that_is_not_there_is_found_before_anything_starts(name, words):
    judge = function(name)
    with pytest.raises(ConfigError, match=words):
        judge.check(PromptsConfig(), "prompts.rsft")


def test_a_function_that_is_there_passes_and_needs_nothing_of_a_row():
    judge = function("test_function:right", replicas=3, num_cpus=2.0, at_a_time=5)
    judge.check(PromptsConfig(), "prompts.rsft")
    assert not judge.exact  # nobody says that its 1 means right
    role = judge.role
    assert (role.min_replicas, role.max_replicas, role.num_cpus) == (3, 3, 2.0)
    assert (role.max_rows_per_replica, role.use_gpu) == (5, False)


@pytest.mark.parametrize("name", [None, ""])
def test_the_kind_function_has_to_name_one(name):
    with pytest.raises(ConfigError, match="function is not set; it must be MODULE:FUNCTION"):
        function(name)


def wrong(prompt, answer):
    return len(None)


def test_a_mistake_in_the_function_ends_the_run_and_is_no_answer_s_fault():
    with pytest.raises(TypeError, match="NoneType"):
        scored("wrong", "an answer")
