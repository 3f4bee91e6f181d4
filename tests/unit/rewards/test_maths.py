"""The reward of a final answer in mathematics, through the process that compares values."""

import asyncio

import pytest
from recorded import recorded

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig, RewardKind
from avr.core.messages import user
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.rewards import maths
from avr.rewards.maths import Maths

JUDGE = Maths.of("maths", JudgingConfig(RewardKind.maths))
GSM8K = "She pays 3*400=<<3*400=1200>>1,200 dollars.\n#### 1,200"


def prompt(reference=GSM8K):
    return Prompt.of((user("How much?"),), source="here.jsonl:7", reference=reference)


async def scored(answer, reference=GSM8K):
    return await JUDGE.score(prompt(reference), answer)


RIGHT = [
    ("Answer: 1200", GSM8K),
    ("The answer is $1,200.00.", GSM8K),
    ("So she pays **1200** dollars.", GSM8K),
    ("3 * 400 is \\boxed{1{,}200}.", GSM8K),
    ("Answer: 0.5", "\\boxed{\\frac{1}{2}}"),
    ("Answer: 1/2", "0.5"),
    ("\\boxed{\\dfrac{2}{4}}", "#### 1/2"),
    ("Answer: $18.00", "#### 18"),
    ("Answer: 18 apples", "18"),
    ("\\boxed{25\\%}", "25"),
    ("#### -7", "-7"),
    ("\\boxed{x = 4}", "4"),
    ("\\boxed{2\\sqrt{2}}", "\\boxed{\\sqrt{8}}"),
    # References in bare LaTeX, as in MATH's rows, and answers in it.
    ("\\boxed{2\\pi}", "2\\pi"),
    ("Answer: 2\\pi", "2\\pi"),
    ("The answer is $2\\pi$.", "2\\pi"),
    ("Answer: 0.75", "\\frac{3}{4}"),
    ("\\boxed{[0,1)}", "[0, 1)"),
    ("Answer: [0, 1)", "[0,1)"),
    ("\\boxed{3, 1, 2}", "1,2,3"),
    ("Answer: 3, 2 and 1", "1,2,3"),
    ("\\boxed{\\{1,2\\}}", "1,2"),
    ("\\boxed{Tuesday}", "\\text{Tuesday}"),
    ("The answer is **Tuesday**.", "\\text{Tuesday}"),
    ("Answer: B", "\\text{(B)}"),
    ("\\boxed{y+x^2}", "x^2+y"),
    ("Answer: y + x", "x+y"),
    ("Answer: 2x + 3", "3+2x"),
    ("Answer: 18.9", "\\$18.90"),
    ("\\boxed{15}", "15\\mbox{ cm}^2"),
    # Numbers in parts.
    ("\\boxed {18}", "18"),
    ("\\boxed{3 1/2}", "3.5"),
    ("Answer: 3 1/2 hours", "\\frac{7}{2}"),
    ("Answer: -3.5", "-3 1/2"),
    ("\\boxed{1\\,200}", "1200"),
    ("Answer: 1\\,200 dollars", "#### 1,200"),
    ("Answer: 18 apples (3 boxes of 6)", "#### 18"),
    ("Answer: 60 km/h", "60"),
    ("Answer: 5m", "5"),
    ("Answer: 100 m^2", "100"),
    ("Answer: 100m/s", "100"),
    ("\\boxed{25}", "25 cm^2"),
    ("Answer: 5 days x 6 = 30 hours", "#### 30"),
    ("Answer: 3 boxes times 6 apples = 18 apples", "#### 18"),
    ("Answer: 100 km at 20 = 5 hours", "#### 5"),
    ("Answer: 18 kg (= 3 * 6)", "#### 18"),
    ("Answer: x*x", "x^2"),
    ("Answer: x + x", "2x"),
    ("\\boxed{100,\\ 200}", "100, 200"),
]
WRONG = [
    ("Answer: 1200.5", GSM8K),
    ("She pays 1,200 dollars. Answer: 120", GSM8K),
    ("Answer: 0.33", "1/3"),
    ("Answer: 7", "-7"),
    ("\\boxed{\\frac{1}{3}}", "\\boxed{\\frac{1}{2}}"),
    ("\\boxed{(1, 2)}", "\\boxed{(2, 1)}"),
    ("Answer: 2", "2\\pi"),
    ("Answer: 2\\pi", "2"),
    ("Answer: 2", "2x"),
    ("Answer: 100 m^2", "1000"),
    ("Answer: 1", "[0, 1)"),
    ("\\boxed{(0, 1]}", "[0, 1)"),
    ("Answer: 3", "1,2,3"),
    ("Answer: Monday", "\\text{Tuesday}"),
    ("It may be Tuesday.", "\\text{Tuesday}"),
    ("Answer: x^2", "x^2+y"),
    ("Answer: 2", "3 1/2"),
    ("Answer: 1", "1\\,200"),
    ("Answer: 6 apples (3 boxes of 18)", "18"),
]


HUGE = "\\boxed{9^{9^{9^{9}}}}"


@pytest.fixture(scope="module")
def judged():
    """All verdicts from one loop, and so by one process, which takes seconds to start."""

    async def all_of():
        verdicts = [await scored(*each) for each in RIGHT + WRONG]
        first, ticks = maths._COMPARER._process, 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.02)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(maths, "TIMEOUT_S", 1.0)  # math-verify itself gives up after 5
            huge = await scored(HUGE)
        ticking.cancel()
        next_one = await scored("Answer: 1200.0")
        second = maths._COMPARER._process
        return verdicts, (huge, ticks, first), (next_one, second)

    return asyncio.run(all_of())


def test_values_are_compared_and_not_texts(judged):
    assert [v.reward for v in judged[0]] == [1.0] * len(RIGHT) + [0.0] * len(WRONG)


def test_the_verdict_says_what_was_found_and_never_what_is_right(judged):
    said = {answer: v for (answer, _), v in zip(RIGHT + WRONG, judged[0], strict=True)}
    assert said["Answer: 1200"] == Verdict("maths", 1.0)
    assert said["Answer: 7"] == Verdict("maths", 0.0, "The final answer, 7, is wrong.")
    assert not any(v.feedback and "1,200" in v.feedback for v in said.values())
    none = asyncio.run(scored("I do not know."))
    assert none == Verdict("maths", 0.0, "There is no final answer.")


def test_a_huge_power_is_wrong_and_holds_up_neither_this_process_nor_the_next_answer(judged):
    _, (huge, ticks, first), (next_one, second) = judged
    assert (huge.reward, next_one.reward) == (0.0, 1.0)
    assert ticks > 5  # the loop went on
    assert first.returncode == -9 and second.pid != first.pid


def test_equal_texts_are_right_without_a_process(monkeypatch):
    monkeypatch.setattr(maths._Comparer, "_asked", None)
    comparer = maths._Comparer()
    monkeypatch.setattr(maths, "_COMPARER", comparer)
    assert asyncio.run(scored("#### 1,200")) == Verdict("maths", 1.0)


@pytest.mark.parametrize("reference", [None, "", "It depends.", "\\boxed{"])
def test_a_reference_without_a_final_answer_is_the_fault_of_this_prompt(reference):
    with pytest.raises(TreeFault, match=r"here\.jsonl:7: the reference has no final answer"):
        asyncio.run(scored("Answer: 3", reference))


def test_a_pair_that_was_compared_is_not_compared_again(monkeypatch):
    asked = []

    async def equal(self, expected, found):
        asked.append((expected, found))
        return found == "12e2"

    monkeypatch.setattr(maths._Comparer, "_asked", equal)
    monkeypatch.setattr(maths, "_COMPARER", maths._Comparer())
    for _ in range(2):  # in a new loop, too
        assert asyncio.run(scored("Answer: 12e2")).reward == 1.0
        assert asyncio.run(scored("Answer: 13e2")).reward == 0.0
    assert asked == [("1,200", "12e2"), ("1,200", "13e2")]


def test_a_comparing_process_that_dies_is_everybodys_fault(monkeypatch):
    monkeypatch.setattr(maths, "_COMPARER", maths._Comparer())
    monkeypatch.setattr(maths.sys, "executable", "/bin/false")
    with pytest.raises((RuntimeError, ConnectionError)):
        asyncio.run(scored("Answer: 5"))


def test_rows_without_a_reference_are_refused_before_anything_starts():
    with pytest.raises(
        ConfigError,
        match=r"prompts\.rsft\.reference_field is not set: the reward 'maths' needs that field",
    ):
        JUDGE.check(PromptsConfig(), "prompts.rsft")
    JUDGE.check(PromptsConfig(reference_field="answer"), "prompts.rsft")
    assert JUDGE.exact


def test_what_a_real_model_wrote_is_judged_as_when_it_was_grown():
    for tree in recorded():
        for answer in tree.responses():
            verdict = asyncio.run(scored(answer.text, tree.prompt.reference))
            assert verdict.reward == answer.reward, answer.text
