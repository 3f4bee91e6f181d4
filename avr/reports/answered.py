"""Write the answers of a recursive model: final answers and thinking apart, failures too."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from avr.core.outputs import thinking_of
from avr.core.trajectory import TrajectoryTemplate
from avr.data.tables import read_rows, read_sets
from avr.storage import Location, write_text
from avr.terminal import indented


@dataclass(frozen=True)
class Answered:
    """Hold a prompt's answer: `output` is all text, `failure` says why there is no final answer.

    `source` is the input row's file and line; `num_turns` counts the refinements in `thinking`.
    """

    id: str
    source: str
    prompt: str
    answer: str
    thinking: str
    num_turns: int
    failure: str
    finish_reason: str
    num_tokens: int
    output: str


def answers_in(folder: Location, name: str, template: TrajectoryTemplate) -> Iterator[Answered]:
    """Yield one Answered per usable prompt, failures included, in the order of the input.

    `folder` is the step's folder, `name` the model's folder in it. A prompt that does not fit into
    the model is in the model's quarantine and has no Answered.
    """
    of_prompt = {each.prompt.id: each for each in read_sets(folder / name / "outputs")}
    for row in read_rows(folder / "prompts.parquet", ["id"]):
        outputs = of_prompt.get(row["id"])
        if outputs is None:
            continue
        # Where no sample has a final answer, the last one stands for the prompt.
        output = outputs.outputs[0] if outputs.outputs else outputs.failures[-1]
        yield Answered(
            id=outputs.prompt.id,
            source=outputs.prompt.source,
            prompt=outputs.prompt.query[-1].content,
            answer=output.answer,
            thinking=thinking_of(output, template),
            num_turns=output.num_turns,
            failure=output.failure,
            finish_reason=output.finish_reason,
            num_tokens=output.num_tokens,
            output=output.text,
        )


def write_answers(
    folder: Location,
    name: str,
    result: Mapping[str, Any],
    template: TrajectoryTemplate,
    to: Location,
) -> None:
    """Write answers.jsonl into `to`, and print the counts of answers and malformed outputs."""
    answers = list(answers_in(folder, name, template))
    file = to / "answers.jsonl"
    write_text(file, "".join(json.dumps(asdict(answer)) + "\n" for answer in answers))
    sets = list(read_sets(folder / name / "outputs"))
    reasons = Counter(output.failure for outputs in sets for output in outputs.failures)
    num_samples = reasons.total() + sum(len(outputs.outputs) for outputs in sets)
    num_failed = sum(bool(answer.failure) for answer in answers)
    indented(
        f"{result['input']['num_rows']} rows = {len(answers)} answers"
        f" + {result['queries'][name]['num_quarantined']} quarantined"
        f" + {result['input']['num_quarantined']} not usable"
    )
    indented(f"without a final answer: {num_failed} ({num_failed / len(answers):.1%})")
    worst = "; ".join(f"{reason}: {number}" for reason, number in reasons.most_common(3))
    indented(f"malformed outputs: {reasons.total()} of {num_samples} samples {worst}".rstrip())
    good = [answer for answer in answers if not answer.failure]
    if good:
        turns, tokens = (
            fmean(getattr(a, each) for a in good) for each in ("num_turns", "num_tokens")
        )
        indented(f"{turns:.2f} refinements and {tokens:.0f} tokens per answer")
    indented(f"answers: {file}")
