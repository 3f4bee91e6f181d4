"""Prompts answered by a recursive model: the final answer and the thinking apart."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from avr.config.answers import AnswerConfig
from avr.config.texts import template_of
from avr.core.messages import content_id
from avr.core.outputs import open_set, thinking_of
from avr.data import tables
from avr.data.prompt_sets import content_of, ingest
from avr.hosting.witness import witness_beside_driver
from avr.pipeline.plan_stage2 import plan_answer
from avr.pipeline.run import Run, model_settings, run_steps, say_rejected
from avr.run.ledger import Ledger
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import SampleOutputs, set_query
from avr.storage import Location, location, write_text
from avr.terminal import indented


@dataclass(frozen=True)
class Answered:
    """One prompt's answer. `output` is the whole text; `failure` says why it has no final answer.

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


def answer_prompts(config: AnswerConfig) -> Iterator[Answered]:
    """One Answered per usable prompt, in the order of the input; a failure is one as well.

    Runs what is not done yet in `config.run_dir`, and writes `answers.jsonl` there. A prompt that
    the model cannot hold is in `answer/quarantine` and has no Answered.
    """
    run_steps(Answering, config, plan_answer(config), ("answer",), ("answer",), _summarise)
    return _answers(config, location(config.run_dir).resolve())


class Answering(Run[AnswerConfig]):
    """The one step."""

    def answer(self) -> None:
        """An output for every prompt."""
        config = self.config
        inputs = {
            "prompts": {**asdict(config.prompts), "content": content_of(config.prompts)},
            "templates": asdict(config.templates),
            "policy": model_settings(config.policy),
            "template": asdict(template_of(config.trajectories)),
            "max_tries": config.max_tries,
            "seed": config.seed,
        }
        self.ledger.step("answer", inputs, lambda: self._answer(content_id(inputs)))

    def _answer(self, recipe: str) -> dict[str, Any]:
        config, folder = self.config, self.folder / "answer"
        prompts = folder / "prompts.parquet"
        ingested = ingest(config.prompts, prompts, folder / "rejected.parquet")
        say_rejected(ingested, folder / "rejected.parquet")
        witness = witness_beside_driver()
        hosted = self.hosted("answer", "policy", config.policy, "answer", config.queries)
        pooled = Pools([hosted], config.serving, witness, self.meter.tick)
        with self.placed("answer"), pooled as pools:
            work = SampleOutputs(
                policies={"policy": pools.generate("policy")},
                reward_model=None,
                templates=self.templates,
                template=template_of(config.trajectories),
                num_outputs=1,
                max_tries=config.max_tries,
            )
            opened = (open_set(tables.prompt_of(r), recipe) for r in tables.read_rows(prompts))
            worked = run_queries(
                (set_query(outputs, "policy") for outputs in opened),
                work,
                pools,
                config.queries,
                Place(folder, "outputs", tables.OUTPUTS),
                "answer",
                witness,
            )
        return {"input": asdict(ingested), "queries": asdict(worked)}


def _answers(config: AnswerConfig, folder: Location) -> Iterator[Answered]:
    template = template_of(config.trajectories)
    of_prompt = {s.prompt.id: s for s in tables.read_sets(folder / "answer" / "outputs")}
    for row in tables.read_rows(folder / "answer" / "prompts.parquet", ["id"]):
        outputs = of_prompt.get(row["id"])
        if outputs is None:
            continue
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


def _summarise(config: AnswerConfig, folder: Location, ledger: Ledger) -> None:
    result = ledger.result("answer")
    answers = list(_answers(config, folder))
    file = folder / "answers.jsonl"
    write_text(file, "".join(json.dumps(asdict(answer)) + "\n" for answer in answers))
    sets = list(tables.read_sets(folder / "answer" / "outputs"))
    reasons = Counter(output.failure for outputs in sets for output in outputs.failures)
    num_samples = reasons.total() + sum(len(outputs.outputs) for outputs in sets)
    num_failed = sum(bool(answer.failure) for answer in answers)
    indented(
        f"{result['input']['num_rows']} rows = {len(answers)} answers"
        f" + {result['queries']['num_quarantined']} quarantined"
        f" + {result['input']['num_quarantined']} not usable"
    )
    indented(f"without a final answer: {num_failed} ({num_failed / len(answers):.1%})")
    worst = "; ".join(f"{reason}: {number}" for reason, number in reasons.most_common(3))
    indented(f"malformed outputs: {reasons.total()} of {num_samples} samples {worst}".rstrip())
    good = [answer for answer in answers if not answer.failure]
    if good:
        turns, tokens = (
            fmean(getattr(a, name) for a in good) for name in ("num_turns", "num_tokens")
        )
        indented(f"{turns:.2f} refinements and {tokens:.0f} tokens per answer")
    indented(f"answers: {file}")
