"""Evaluations as their jobs leave them: answered, judged, reported. For unit tests alone."""

import json
from dataclasses import asdict
from pathlib import Path

from avr.config.answers import EvaluateConfig, JudgeConfig, JudgeKind
from avr.config.prompts import PromptsConfig
from avr.config.roles import RoleConfig
from avr.core.growth import Response
from avr.core.tree import plant, tree_to_dict
from avr.data.prompt_sets import input_rows
from avr.data.schemas import TREES
from avr.data.tables import write_part
from avr.evaluation.judges import Preference
from avr.reports.answers import answers_of, duels_of
from avr.reports.evaluation import report
from avr.serving.duels import PREFERENCES

TEXTS = {"a?": "alpha", "b?": "beta beta", "c?": ""}


def configured(tmp_path, texts=TEXTS, **more):
    prompts = tmp_path / "prompts.json"
    baseline = tmp_path / "baseline.json"
    prompts.write_text(json.dumps([{"instruction": q, "uid": f"u-{q}"} for q in texts]))
    if not baseline.exists():
        rows = [{"instruction": q, "output": f"the baseline on {q}"} for q in texts]
        baseline.write_text(json.dumps(rows))
    fields = {"prompt_field": "instruction"}
    settings = {
        "prompts": PromptsConfig(path=str(prompts), **fields),
        "baseline": PromptsConfig(path=str(baseline), answer_field="output", **fields),
        "judge": JudgeConfig(JudgeKind.oracle, oracle="builtins:len"),
        "policy": RoleConfig(model="m"),
    }
    return EvaluateConfig(run_dir="unused", **settings | more)


def answered(config, folder, texts=TEXTS):
    """What the policy has said; where that is "", nothing that could be used."""
    trees, bad = [], []
    for row in input_rows(config.prompts):
        text = texts[row.prompt.query[0].content]
        data = tree_to_dict(plant(row.prompt, "test"))
        if text:
            data["response"] = asdict(Response("y", text, "stop", 3))
            trees.append(data)
        else:
            bad.append(data | {"quarantined": "answer: the policy gave an empty answer, 5 times"})
    write_part(folder / "answer" / "trees", "one", trees, TREES)
    write_part(folder / "answer" / "quarantine", "one", bad, TREES)


def judged(config, folder, preferences):
    """Preferences in the order of the rows; a text is a reason for none."""
    rows, bad = {}, {}
    for (_, duel), preference in zip(duels_of(config, folder / "answer"), preferences, strict=True):
        if isinstance(preference, str):
            bad[duel.id] = asdict(Preference(0.0)) | {"id": duel.id, "quarantined": preference}
            continue
        verdicts = [verdict.value for verdict in preference.verdicts]
        row = asdict(preference) | {"id": duel.id, "verdicts": verdicts, "quarantined": ""}
        rows[duel.id] = row
    write_part(folder / "judge" / "preferences", "one", list(rows.values()), PREFERENCES)
    write_part(folder / "judge" / "quarantine", "one", list(bad.values()), PREFERENCES)


def reported(config, folder, settings=None):
    lines = []
    answers = list(answers_of(config, folder / "answer"))
    try:
        duels = list(duels_of(config, folder / "answer"))
        report(config, folder, duels, answers, settings or {"by": "an:oracle"}, lines.append)
    finally:
        figures = json.loads((folder / "report.json").read_text())
        assert not unnamed(figures)
    return figures, lines


def unnamed(report, job="evaluate", given=("failures", "settings", "as_they_were", "by_rounds")):
    """Fields that the job's part of the page lacks; those below `given` are data."""
    words = Path("docs/reference/reports.md").read_text().partition(f"## `jobs/{job}.py`")[2]
    words = words.partition("\n## ")[0]

    def names(fields):
        for name, value in fields.items():
            yield name
            if isinstance(value, dict) and name not in (*given, "weights"):
                yield from names(value)

    return {name for name in names(report) if f"`{name}`" not in words} - {"low", "high"}
