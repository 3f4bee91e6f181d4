"""Sample whole outputs of a recursive model, parse them, and judge them by their final answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import pvariance
from typing import Any

from avr.core.messages import content_id
from avr.core.prompts import Templates, answer_context
from avr.core.reward import Rewarding
from avr.core.roles import Completion, Generate, TreeFault
from avr.core.sampling import sample
from avr.core.trajectory import (
    Trajectory,
    TrajectoryError,
    TrajectoryTemplate,
    parse_trajectory,
)
from avr.core.tree import Prompt, Verdict, prompt_from_dict, verdicts_from

UNJUDGED = "cannot be judged: "  # The failure of a well-formed output begins with this.


@dataclass(frozen=True, slots=True)
class Judgement:
    """Hold a model's critique of its own answer, with the rating 1..10 that it gave the answer.

    `meta_rating` is the rating that the model gave the critique; None where it gave none.
    `num_tokens` counts the tokens of the critique and of its meta rating.
    """

    id: str
    text: str
    rating: int
    finish_reason: str
    num_tokens: int
    meta_rating: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Hold one sampled text. `answer` is the part behind the thinking; `reward` judges it alone.

    `failure` is the reason why the text has no final answer or could not be judged, else "".
    `judgements` are there where the model itself is the judge; the reward is then their mean
    rating. Otherwise it combines the `verdicts`.
    """

    id: str
    text: str
    answer: str
    num_turns: int
    finish_reason: str
    num_tokens: int
    failure: str = ""
    reward: float | None = None
    judgements: tuple[Judgement, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def malformed(self) -> bool:
        """Return whether the text has no final answer; False if it only could not be judged."""
        return bool(self.failure) and not self.failure.startswith(UNJUDGED)


@dataclass(frozen=True, slots=True)
class OutputSet:
    """Hold the outputs sampled for one prompt; `failures` did not parse or could not be judged.

    `num_missing` counts the outputs that were asked for and are not in `outputs`: malformed after
    all tries, or without a judgement. `reference` is the reward of the answer in the input row,
    None without one.
    """

    id: str
    prompt: Prompt
    outputs: tuple[Output, ...] = ()
    failures: tuple[Output, ...] = ()
    num_missing: int = 0
    reference: float | None = None
    quarantined: str = ""


def open_set(prompt: Prompt, recipe: str) -> OutputSet:
    """Make a set with nothing sampled yet; `recipe` names model, sampling and templates."""
    return OutputSet(content_id("outputs", prompt.id, recipe), prompt)


async def sample_outputs(
    outputs: OutputSet,
    policy: Generate,
    templates: Templates,
    template: TrajectoryTemplate,
    num_outputs: int,
    max_tries: int,
) -> OutputSet:
    """Sample until `num_outputs` outputs parse, in at most `max_tries` requests.

    Outputs that do not parse are kept in `failures`. Source: method, Stage II.4.
    """
    parent = content_id("output", outputs.prompt.id, policy.identity)
    samples = await sample(
        policy,
        answer_context(outputs.prompt.query, templates),
        num_outputs,
        max_tries,
        parent,
        lambda completion: not _parsed(completion, template)[1],
    )
    failed = enumerate(samples.rejected)
    return replace(
        outputs,
        outputs=tuple(_output(node, c, template) for node, c in samples.kept),
        failures=tuple(
            _output(content_id(parent, "failed", branch), c, template) for branch, c in failed
        ),
        num_missing=samples.num_missing,
    )


async def score_outputs(outputs: OutputSet, rewarding: Rewarding) -> OutputSet:
    """Score every final answer, and the input row's own answer if there is one.

    An output with an answer that cannot be judged joins the failures; the others are not affected.
    """
    prompt, own = outputs.prompt, outputs.prompt.answer

    async def judge(output: Output) -> Output:
        try:
            reward, verdicts = await rewarding.reward(prompt, output.answer)
        except TreeFault as error:
            return replace(output, answer="", failure=f"{UNJUDGED}{error}")
        return replace(output, reward=reward, verdicts=verdicts)

    judged = await asyncio.gather(*map(judge, outputs.outputs))
    failed = [output for output in judged if output.failure]
    return replace(
        outputs,
        outputs=tuple(output for output in judged if not output.failure),
        failures=(*outputs.failures, *failed),
        num_missing=outputs.num_missing + len(failed),
        reference=(await rewarding.reward(prompt, own))[0] if own else None,
    )


async def score_failures(outputs: OutputSet, rewarding: Rewarding) -> OutputSet:
    """Give every failure the reward of an empty answer: its user would get nothing to read."""
    if not outputs.failures:
        return outputs
    reward, verdicts = await rewarding.reward(outputs.prompt, "")
    failures = (replace(o, reward=reward, verdicts=verdicts) for o in outputs.failures)
    return replace(outputs, failures=tuple(failures))


def thinking_of(output: Output, template: TrajectoryTemplate) -> str:
    """Return the text between start and end marker, unescaped; "" for a failure or plain text."""
    if output.failure or template.plain:
        return ""
    inner = output.text.split(template.markers["end"])[0]
    inner = inner.strip().removeprefix(template.markers["start"]).strip()
    return template.unescape(inner)


def set_to_dict(outputs: OutputSet) -> dict[str, Any]:
    """Convert a set to nested plain data, as Parquet and JSON hold it."""
    return asdict(outputs)


def set_from_dict(data: Mapping[str, Any]) -> OutputSet:
    """Convert the data of `set_to_dict` back to a set."""
    return OutputSet(
        **{
            **data,
            "prompt": prompt_from_dict(data["prompt"]),
            "outputs": tuple(map(_output_from, data["outputs"])),
            "failures": tuple(map(_output_from, data["failures"])),
        }
    )


def _output_from(data: Mapping[str, Any]) -> Output:
    judgements = data.get("judgements") or ()
    there = {"judgements": tuple(Judgement(**j) for j in judgements)}
    return Output(**{**data, **there, "verdicts": verdicts_from(data)})


def _output(node: str, completion: Completion, template: TrajectoryTemplate) -> Output:
    trajectory, failure = _parsed(completion, template)
    return Output(
        id=node,
        text=completion.text,
        answer=trajectory.answer.strip() if trajectory else "",
        num_turns=len(trajectory.turns) if trajectory else 0,
        finish_reason=completion.finish_reason,
        num_tokens=completion.num_tokens,
        failure=failure,
    )


def _parsed(completion: Completion, template: TrajectoryTemplate) -> tuple[Trajectory | None, str]:
    """Parse a completion: the trajectory and "", or None and the reason why there is none."""
    try:
        trajectory = parse_trajectory(completion.text, template)
    except TrajectoryError as error:
        cut = ", cut off at its token limit" if completion.finish_reason == "length" else ""
        return None, f"{error}{cut}"
    return (trajectory, "") if trajectory.answer.strip() else (None, "has no final answer")


def _most_varied(item: OutputSet) -> Output | None:
    """Find the output with the most varied ratings; None where no output has two judgements.

    The earliest wins a tie.
    """
    several = [output for output in item.outputs if len(output.judgements) > 1]
    return max(several, key=lambda o: pvariance([j.rating for j in o.judgements]), default=None)
