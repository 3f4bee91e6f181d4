"""Measure whether the three models may be used: `python -m avr.miniature.making.gates`.

On held-out prompts the policy answers; the corrector checks and refines those answers; the policy
checks and refines them itself and judges critiques; the reward model ranks all of these texts.
Writes REPORT.md and report.json to avr/miniature (or `--out`), and exits with 1 when a gate is
missed that is more than an aim.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from avr.core.ratings import parse_rating
from avr.engines.weights import weights_id
from avr.miniature.making.measures import (
    copies_answer,
    flag_rates,
    num_shared_prompts,
    pairwise_accuracy,
    well_formed,
)
from avr.miniature.making.meta_judging import is_meta_judgement, two_critiques
from avr.miniature.making.trial import TEMPERATURE, TOP_P, Bench, Refined, one_fault
from avr.miniature.prompts import read_prompts
from avr.miniature.world import parse_critique, parse_prompt

HERE = Path(__file__).parents[1]
_NUM_SAMPLES = 10
_WIDTH = 110
ROLES = ("policy", "corrector", "reward")


@dataclass(frozen=True, slots=True)
class Gate:
    """Hold a figure and the closed interval it has to lie in (None: reported only).

    An `aim` is wanted and not required: missing it is reported and fails nothing.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    aim: bool = False

    @property
    def passed(self) -> bool:
        """Say whether the figure lies inside."""
        above = self.low is None or self.value >= self.low
        return above and (self.high is None or self.value <= self.high)

    @property
    def wanted(self) -> str:
        """Return the interval in words."""
        bounds = [f">= {self.low}"] if self.low is not None else []
        bounds += [f"<= {self.high}"] if self.high is not None else []
        return ", ".join(bounds) + (" (aim)" if self.aim else "") if bounds else "-"


def measure(bench: Bench) -> tuple[list[Gate], str]:
    """Measure all gates; return them and sample exchanges as Markdown."""
    answers = bench.answer("policy", seed=1)
    ideals = bench.answer("corrector", seed=3)
    refined = bench.refine("corrector", answers, seed=5)
    own = bench.refine("policy", answers, seed=7)
    gates = [
        *_policy_gates(bench, answers, own),
        *_meta_gates(bench),
        *_corrector_gates(bench, answers, ideals, refined),
        *_reward_gates(bench, [answers, ideals, refined.refinements, own.refinements]),
        *_form_gates(bench.prompts, answers, ideals, refined, own),
        Gate("prompts shared between sets or with training", num_shared_prompts(), high=0),
    ]
    return gates, _render_samples(bench.prompts, answers, refined, own)


def _policy_gates(bench: Bench, answers: list[str], own: Refined) -> list[Gate]:
    flagged, alarms = flag_rates(bench.prompts, answers, own.critiques)
    base = bench.quality(answers)
    return [
        Gate("policy: oracle quality", base, 0.55, 0.75),
        Gate("policy: gain by refining its own answers", bench.quality(own.refinements) - base,
             high=0.05),
        Gate("policy: share of its faults it flags", flagged, high=0.70),
        Gate("policy: false alarms", alarms),
        Gate("policy: flags a single wrong word", _finds(bench, "policy", "wrong"), high=0.70),
        Gate("policy: flags a repeated word", _finds(bench, "policy", "repeated"), high=0.70),
    ]  # fmt: skip


def _meta_gates(bench: Bench) -> list[Gate]:
    """Measure how the policy judges two critiques of an answer: a true and a faulty one."""
    answers, true, faulty = two_critiques(bench.prompts)
    of_true, of_faulty = (
        bench.meta_judge(answers, texts, seed) for texts, seed in ((true, 17), (faulty, 19))
    )
    formed = [
        request is not None and is_meta_judgement(request, critique, text)
        for request, critique, text in zip(
            [parse_prompt(prompt) for prompt in bench.prompts] * 2,
            true + faulty,
            of_true + of_faulty,
            strict=True,
        )
    ]
    ratings = zip(map(parse_rating, of_true), map(parse_rating, of_faulty), strict=True)
    told = [0.5 if one == other else float(one > other) for one, other in ratings if one and other]
    rated = [parse_rating(text) is not None for text in of_true + of_faulty]
    return [
        Gate("policy: meta-judgements that end with a rating", statistics.mean(rated), low=0.97),
        Gate("policy: well-formed meta-judgements", statistics.mean(formed), low=0.97, aim=True),
        Gate("policy: rates the true critique above one with faults (ties half)",
             statistics.mean(told), low=0.60, aim=True),
    ]  # fmt: skip


def _corrector_gates(
    bench: Bench, answers: list[str], ideals: list[str], refined: Refined
) -> list[Gate]:
    prompts = bench.prompts
    again = bench.refine("corrector", refined.refinements, seed=9)
    flagged, alarms = flag_rates(prompts, answers, refined.critiques)
    ideal_critiques = bench.check("corrector", ideals, seed=11)
    late, late_alarms = flag_rates(
        prompts * 2, refined.refinements + ideals, again.critiques + ideal_critiques
    )
    base, lifted = bench.quality(answers), bench.quality(refined.refinements)
    return [
        Gate("corrector: gain by refining the policy's answers", lifted - base, low=0.10),
        Gate("corrector: share of the policy's faults it flags", flagged, low=0.90, aim=True),
        Gate("corrector: false alarms on the policy's answers", alarms, high=0.10),
        Gate("corrector: share of faults flagged in good answers", late, low=0.90, aim=True),
        Gate("corrector: false alarms on good answers", late_alarms, high=0.10),
        Gate("corrector: flags a single wrong word", _finds(bench, "corrector", "wrong"), low=0.80,
             aim=True),
        Gate("corrector: flags a repeated word", _finds(bench, "corrector", "repeated"), low=0.80),
        Gate("corrector: critiques that repeat the items exactly",
             copies_answer(prompts, answers, refined.critiques)),
        Gate("corrector: quality after one refinement", lifted),
        Gate("corrector: quality after two", bench.quality(again.refinements)),
        Gate("corrector: quality of its own answers", bench.quality(ideals)),
    ]  # fmt: skip


def _reward_gates(bench: Bench, judged: list[list[str]]) -> list[Gate]:
    """Measure how the reward model ranks answers.

    `judged`: the policy's answers first, then those of other sources.
    """
    rewards = [bench.rewards(texts) for texts in judged]
    accuracy = pairwise_accuracy(bench.prompts, judged, rewards)
    rival = bench.answer("policy", seed=13)
    told = {}
    for kind in ("wrong", "repeated"):
        right, faulty, _ = one_fault(bench.prompts, kind)
        pairs = zip(bench.rewards(right), bench.rewards(faulty), strict=True)
        told[kind] = statistics.mean(good > bad for good, bad in pairs)
    narrow = pairwise_accuracy(
        bench.prompts, [judged[0], rival], [rewards[0], bench.rewards(rival)]
    )
    return [
        Gate("reward: pairwise accuracy, answers of all sources", accuracy, low=0.75),
        Gate("reward: pairwise accuracy, two answers of the policy", narrow, low=0.75),
        *(
            Gate(f"reward: prefers a faultless answer to it with one {kind} word", share, low=0.90)
            for kind, share in told.items()
        ),
    ]


def _finds(bench: Bench, role: str, kind: str) -> float:
    """Return the share of single faults of a kind that a model's critique flags."""
    _, faulty, places = one_fault(bench.prompts, kind)
    found = []
    for prompt, text, (row, place) in zip(
        bench.prompts, bench.check(role, faulty, seed=15), places, strict=True
    ):
        request = parse_prompt(prompt)
        critique = parse_critique(request, text) if request else None
        verdicts = critique.verdicts[row] if critique else ()
        found.append(place < len(verdicts) and verdicts[place] != "good")
    return statistics.mean(found)


def _form_gates(
    prompts: list[str], answers: list[str], ideals: list[str], refined: Refined, own: Refined
) -> list[Gate]:
    texts = {
        "policy: well-formed answers": answers,
        "policy: well-formed critiques": own.critiques,
        "policy: well-formed refinements": own.refinements,
        "corrector: well-formed answers": ideals,
        "corrector: well-formed critiques": refined.critiques,
        "corrector: well-formed refinements": refined.refinements,
    }
    return [
        Gate(name, well_formed(prompts, rows, critique="critiques" in name), low=0.97)
        for name, rows in texts.items()
    ]


def _render_samples(prompts: list[str], answers: list[str], refined: Refined, own: Refined) -> str:
    parts = []
    for place in range(min(_NUM_SAMPLES, len(prompts))):
        texts = {
            "policy": answers,
            "policy's critique": own.critiques,
            "policy's refinement": own.refinements,
            "corrector's critique": refined.critiques,
            "corrector's refinement": refined.refinements,
        }
        items = [_wrapped(f"- {name}: {rows[place]}", "  ") for name, rows in texts.items()]
        parts.append("\n".join([_wrapped(f"**{prompts[place]}**"), "", *items, ""]))
    return "\n".join(parts)


def _wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph of Markdown into lines; those after the first begin with `indent`."""
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _render_report(gates: list[Gate], num_prompts: int, samples: str) -> str:
    rows = [
        f"| {gate.name} | {gate.value:.3f} | {gate.wanted} | {'yes' if gate.passed else 'NO'} |"
        for gate in gates
    ]
    return "\n".join(
        [
            "# Gates of the miniature models",
            "",
            _wrapped(
                f"Written by `python -m avr.miniature.making.gates` on {num_prompts} held-out "
                f"prompts, one sample each at temperature {TEMPERATURE}, top_p {TOP_P}. Good "
                "answers: refinements and answers by the corrector."
            ),
            "",
            "| figure | value | wanted | passed |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Samples",
            "",
            samples,
        ]
    )


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--prompts", type=int, default=800)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = read_prompts("heldout")[: arguments.prompts]
    gates, samples = measure(Bench(arguments.models, prompts))
    rows = [{**asdict(gate), "passed": gate.passed} for gate in gates]
    weights = {role: weights_id(str(arguments.models / role)) for role in ROLES}
    settings = {"prompts": len(prompts), "temperature": TEMPERATURE, "top_p": TOP_P}
    report = {**settings, "weights": weights, "gates": rows}
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = _render_report(gates, len(prompts), samples)
    (arguments.out / "REPORT.md").write_text(text, encoding="utf-8")
    print(text)
    sys.exit(0 if all(gate.passed or gate.aim for gate in gates) else 1)


if __name__ == "__main__":
    main()
