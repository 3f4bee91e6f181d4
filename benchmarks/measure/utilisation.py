"""Work out the tokens per second of one engine of a run, from the files that the run left.

A run says it nowhere: vLLM prints its throughput in its servers only, and ours have none around
their engines (STEP/logs have no rates, whatever `disable_log_stats` is). It does say how many
tokens a step has generated (summary.json: STEP.trees.tokens, or STEP.outputs.tokens) and how many
seconds it took (summary.json: seconds.STEP, which are those of ledger/STEP.json). Where the policy
generates alone, an engine's tokens per second are tokens / seconds / `policy.max_replicas` (more of
them in Stage I's second growth, where the policy gets the GPUs of a corrector). Where there is a
corrector, the trees say which tokens are whose; this reads them.

Those seconds are all of a step's: reading prompts, waiting for room, starting engines, stopping
them. So there are two rates. The first is over all of them, and too low. The second is by the times
of the files in which texts were committed. In growth it is that of the middle three fifths of a
role's tokens, where as many trees come as go: in three growths of 256 prompts (12.8 to 13.5 s) that
of all roles together was 0.98 to 1.01 of the rate since the engines were ready. In other steps it
is that from queries.parquet, which is written when the pools are up, to the last file. A step in
which models answer has a folder for each of them, with files of its own; all of them are answers
of the policy's pool, whose engines load one model after the other. A step that was continued has no
second rate, nor one whose files have other times than the run gave them (a copy). Tokens of what
was quarantined are not counted; pools count at their most replicas.
"""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from measure.measuring import rates_of

from avr.config.roles import Placement
from avr.core.outputs import set_from_dict
from avr.core.tree import tree_from_dict
from avr.data.tables import read_rows
from avr.recipes.stage1 import Stage1Config, second_policy

KINDS = ("trees", "outputs")  # folders of texts


@dataclass(frozen=True)
class OneByOne:
    """Mark a step whose roles took turns: its seconds belong to none of them alone."""

    step: str


@dataclass(frozen=True)
class Rate:
    """Hold what a role's engines did in a step; `tokens_per_s` of one, over all `seconds`.

    `at_work` is that by the times of files, None where they do not tell.
    """

    step: str
    role: str
    num_engines: int
    tokens: int
    seconds: float
    tokens_per_s: float
    at_work: float | None


def rates(config, run_dir):
    """Give the rates of every role in every step that was done and has generated something."""
    for file in sorted((run_dir / "ledger").glob("*.json")):
        entry, step = json.loads(file.read_text()), run_dir / file.stem
        files = [each for each in step.rglob("*.parquet") if each.parent.name in KINDS]
        if "result" not in entry or not entry["seconds"] or not files:
            continue
        grown = "growth" in entry["result"]
        in_waves = grown and config.growth.placement == Placement.waves
        if in_waves or any(step.glob("*/unrewarded")):
            yield OneByOne(step.name)
        else:
            yield from _rates_of(config, step, sorted(files, key=_written), entry, grown)


def _rates_of(config, step, files, entry, grown):
    corrector = step.name == "grow_rsft" and config.corrector is not None
    parts = [(_written(file), _tokens(file, corrector)) for file in files]
    seconds, last = entry["seconds"], parts[-1][0]
    worked = entry["result"]["growth" if grown else "queries"]
    by_model = [worked] if "num_resumed" in worked else worked.values()
    resumed = any(one["num_resumed"] for one in by_model)
    told = not resumed and last - _written(step / "prompts.parquet") > seconds / 2
    for role, tokens in sum((found for _, found in parts), Counter()).items():
        number = _num_engines(config, step.name, role)
        at_work = None
        if told and grown:
            at_work = _steady([(when, found[role]) for when, found in parts])
        elif told:
            at_work = tokens / (last - min(map(_written, step.rglob("queries.parquet"))))
        at_work = at_work and at_work / number
        yield Rate(step.name, role, number, tokens, seconds, tokens / seconds / number, at_work)


def _steady(ends):
    with suppress(ValueError):  # too few blocks
        return rates_of(0.0, ends)["steady"]
    return None


def _num_engines(config, step, role):
    if role == "corrector":
        return config.corrector.max_replicas
    again = isinstance(config, Stage1Config) and step == "grow_dpo"
    return (second_policy(config) if again else config.policy).max_replicas


def _tokens(file, corrector):
    """Count the generated tokens by role in one file of trees or sets of outputs."""
    found = Counter()
    for row in read_rows(file):
        if file.parent.name == "outputs":
            outputs = set_from_dict(row)
            texts = (*outputs.outputs, *outputs.failures)
            found["policy"] += sum(t.num_tokens for one in texts for t in (one, *one.judgements))
        else:
            tree = tree_from_dict(row)
            found["policy"] += tree.first.num_tokens
            refining = "corrector" if corrector else "policy"
            found[refining] += tree.num_tokens() - tree.first.num_tokens
    return +found  # a role that was not asked has no engines


def _written(file):
    return file.stat().st_mtime
