"""Which prompts of a run its models were trained on is read from its ledger."""

import json

from avr.core.messages import content_id
from avr.data.schemas import PROMPTS
from avr.data.tables import write_rows
from avr.data.used_prompts import built_on, training_prompts


def begun(run, step, inputs, *, prompts=()):
    (run / "ledger").mkdir(parents=True, exist_ok=True)
    (run / "ledger" / f"{step}.json").write_text(json.dumps({"inputs": inputs, "seconds": 0.0}))
    if prompts:
        rows = [{"id": one, "query": [], "answer": None, "source": "file:1"} for one in prompts]
        write_rows(run / step / "prompts.parquet", rows, PROMPTS)
    return {"after": content_id(inputs)}


def test_prompts_that_something_is_built_on_are_the_trainings(tmp_path):
    grown = begun(tmp_path, "my_growth", {"seed": 0}, prompts=["a", "b"])
    other = begun(tmp_path, "other_growth", {"apart_from": [grown]}, prompts=["c"])
    rows = begun(tmp_path, "rows", {"trees": other})
    begun(tmp_path, "training", {"rows": rows})
    begun(tmp_path, "evaluate", {"apart_from": [grown, other]}, prompts=["held out"])
    found = training_prompts(tmp_path)
    assert list(found) == ["my_growth", "other_growth"]
    assert [("a" in ids, "c" in ids, "held out" in ids) for ids in found.values()] == [
        (True, False, False),
        (False, True, False),
    ]
    assert built_on(tmp_path)["my_growth"] == {"seed": 0}


def test_a_folder_without_a_ledger_has_none(tmp_path):
    assert training_prompts(tmp_path) == {}
