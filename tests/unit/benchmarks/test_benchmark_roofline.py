"""Bounds of every recipe, and what a run says of how near its engines came to them."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
import roofline
from measure.utilisation import OneByOne, rates
from roofline import DEVICES, SHAPES, bounds, config_of, engine_bounds, shape_of, share, show_run

from avr.core.messages import user
from avr.core.outputs import Judgement, Output, OutputSet, set_to_dict
from avr.core.tree import Critique, Level, Prompt, RefinementTree, Response, tree_to_dict
from avr.data.schemas import OUTPUTS, TREES
from avr.data.tables import write_part

RECIPES = sorted(Path("conf/llama3_8b").glob("*.yaml"))
STAGE1, STAGE2 = "conf/llama3_8b/stage1.yaml", "conf/llama3_8b/stage2.yaml"
H100 = DEVICES["h100"]


@pytest.mark.parametrize(
    "model, billions, kv_kib",
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8.03, 128),
        ("Qwen/Qwen2.5-32B-Instruct", 32.76, 256),
        ("Skywork/Skywork-Reward-Gemma-2-27B", 27.23, 368),
    ],
)
def test_shapes_give_the_published_numbers_of_parameters(model, billions, kv_kib):
    shape = SHAPES[model]
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=2e-3)
    assert shape.kv_bytes_per_token() == kv_kib * 1024


def test_shape_of_a_folder_is_that_of_its_weights():
    folder = "avr/miniature/models/policy"
    sizes = safetensors_sizes(f"{folder}/model.safetensors")
    sizes.pop("lm_head.weight", None)  # tied: it may be written, and is the embeddings
    weights = sum(map(math.prod, sizes.values()))
    assert shape_of(folder, Path()).parameters == pytest.approx(weights, rel=0.01)


def safetensors_sizes(file):
    raw = Path(file).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def test_decoding_is_bound_by_bandwidth_until_the_batch_is_large():
    shape, device = SHAPES["meta-llama/Meta-Llama-3-8B-Instruct"], DEVICES["h100"]
    one = engine_bounds(shape, device, {"max_num_seqs": 1}, 1, 1)
    assert one["step_ms"] == pytest.approx(1000 * 2 * 7.5e9 / 3.35e12, rel=0.01)
    assert one["bound_by"] == "memory bandwidth"
    many = engine_bounds(shape, device, {"max_num_seqs": 4096}, 1, 1)
    assert many["bound_by"] == "arithmetic"
    two = engine_bounds(shape, device, {"max_num_seqs": 1, "tensor_parallel_size": 2}, 1, 1)
    assert two["step_ms"] == pytest.approx(one["step_ms"] / 2, abs=0.01)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_has_bounds_and_its_policy_the_shape_of_what_it_is_trained_from(recipe):
    found = bounds(str(recipe), [], H100, 1500)
    assert found["policy"]["weights_gib"] == 15.0
    assert found["policy"]["decode_tokens_per_s"] > 0
    assert ("rsft" in found, "dpo" in found) == (recipe.stem.startswith("stage"),) * 2


@pytest.mark.parametrize("job", ["stage1", "stage2", "answer", "evaluate", "refine"])
def test_recipes_of_every_job_with_engines_have_bounds_and_models_to_come_a_shape(job):
    found = bounds(f"conf/miniature/{job}.yaml", [], H100, 200)
    assert found["policy"]["kv_kib_per_token"] == 1.875  # of the miniature world's


def test_stage_one_has_a_corrector_and_stage_two_whole_outputs_under_their_own_sampling():
    first, second = (bounds(recipe, [], H100, 1500) for recipe in (STAGE1, STAGE2))
    engines = {"policy", "reward_model", "rsft", "dpo"}
    assert set(first) == engines | {"corrector"}
    assert set(second) == engines | {"outputs"}
    for found in (first, second):
        assert set(found["reward_model"]) == {"devices", "weights_gib", "prefill_tokens_per_s"}
    short, whole = (second[role]["sequences_of_max_tokens"] for role in ("policy", "outputs"))
    assert whole == short // 3  # 6144 tokens in the place of 2048
    shorter = bounds(STAGE2, ["outputs.sampling.max_tokens=4096"], H100, 1500)["outputs"]
    assert shorter["sequences_of_max_tokens"] == short // 2


def test_a_judge_with_a_reward_model_is_an_engine_of_an_evaluation():
    name = "Skywork/Skywork-Reward-Gemma-2-27B"
    evaluation = "conf/llama3_8b/evaluate_alpaca.yaml"
    found = bounds(evaluation, [f"judge.reward_model.model={name}"], H100, 1500)
    assert found["reward_model"]["weights_gib"] == 50.7
    assert "reward_model" not in bounds(evaluation, [], H100, 1500)


def test_each_model_of_an_ensemble_is_an_engine_and_a_verifier_is_none():
    member = "{reward_model: {model: Skywork/Skywork-Reward-Gemma-2-27B}}"
    words = ["reward_model=null", "reward.kind=ensemble"]
    words.append(f"reward.members={{one: {member}, two: {member}, right: {{kind: maths}}}}")
    found = bounds(STAGE1, words, H100, 1500)
    assert set(found) == {"policy", "corrector", "one", "two", "rsft", "dpo"}
    assert found["one"]["weights_gib"] == 50.7


def test_a_model_that_nobody_knows_and_a_recipe_of_no_job_say_so(tmp_path):
    with pytest.raises(SystemExit, match=r"of no recipe in .*: somebody/unknown"):
        bounds(STAGE2, ["policy.model=somebody/unknown"], H100, 1500)
    with pytest.raises(SystemExit, match=r"as Stage1Config: .*did you mean 'policy.model'"):
        bounds(STAGE1, ["policy.modle=x"], H100, 1500)
    with pytest.raises(SystemExit, match="no such recipe"):
        bounds(str(tmp_path / "none.yaml"), [], H100, 1500)


def test_a_share_is_of_the_bound_of_its_role():
    found = {"corrector": {"decode_tokens_per_s": 10_000}}
    assert share(found, "corrector", 2500) == "2500 tokens/s, 25.0% of the bound"
    with pytest.raises(SystemExit, match="has no policy"):
        share(found, "policy", 1)


def told(monkeypatch, tmp_path, *words):
    monkeypatch.setattr("measure.measuring.RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["roofline.py", *words])
    roofline.main()
    return tmp_path / "roofline.json"


def test_bounds_of_all_recipes_are_one_report_and_a_share_is_none(monkeypatch, tmp_path, capsys):
    rate = ["--role", "policy", "--tokens-per-second", "6840.5"]
    assert not told(monkeypatch, tmp_path, STAGE2, *rate).exists()
    assert "policy: 6840 tokens/s, 50.0% of the bound" in capsys.readouterr().out
    report = told(monkeypatch, tmp_path, STAGE1, "--device", "a100", STAGE2, "seed=1")
    found = json.loads(report.read_text())
    assert list(found["bounds_not_measurements"]) == [STAGE1, STAGE2]
    assert found["arguments"] == {"device": "a100", "context": 1500, "overrides": ["seed=1"]}
    with pytest.raises(SystemExit):
        told(monkeypatch, tmp_path, STAGE1, STAGE2, *rate)


def tree(name, first, critique, refinement, rejected):
    answer, better = (
        Response(f"{name}-{n}", "text", "stop", n, reward=0.0) for n in (first, refinement)
    )
    told = Critique(f"{name}-c", "text", 7, "stop", critique, (better,))
    level = Level(answer.id, (told,), num_rejected=1, num_rejected_tokens=rejected)
    return tree_to_dict(RefinementTree(name, Prompt.of((user(name),)), answer, (level,)))


def outputs(name):
    judged = Judgement("j", "text", 7, "stop", 5)
    texts = [Output(f"{name}-{n}", "t", "t", 0, "stop", n, "", 0.0, (judged,)) for n in (100, 200)]
    return set_to_dict(
        OutputSet(name, Prompt.of((user(name),)), tuple(texts[:1]), tuple(texts[1:]))
    )


def at(file, when):
    file.touch()
    os.utime(file, (when, when))


def step(run, name, result, parts, kind="trees", seconds=100.0):
    """A step that read its prompts at 1,000 s; `parts` are (time, rows)."""
    folder = run / name
    (run / "ledger").mkdir(exist_ok=True)
    entry = {"seconds": seconds, "result": result}
    (run / "ledger" / f"{name}.json").write_text(json.dumps(entry))
    for when, rows in parts:
        schema = TREES if kind.endswith("trees") else OUTPUTS
        write_part(folder / kind, str(when), rows, schema)
        at(folder / kind / f"{when}.parquet", when)
    folder.mkdir(exist_ok=True)
    at(folder / "prompts.parquet", 1000)
    return folder


GROWN = {"growth": {"num_resumed": 0}}
# Of ten trees one comes at 1,030 s, then one every 5 s, the last at 1,090 s.
TIMES = [*range(1030, 1075, 5), 1090]
PARTS = [(when, [tree(f"t{when}", 10, 20, 30, 5)]) for when in TIMES]


def test_a_growth_has_tokens_by_role_over_all_seconds_and_while_its_engines_worked(tmp_path):
    step(tmp_path, "grow_rsft", GROWN, PARTS)
    policy, corrector = rates(config_of(STAGE1, []), tmp_path)
    assert (policy.role, policy.tokens, policy.num_engines) == ("policy", 100, 2)
    assert (corrector.role, corrector.tokens, corrector.seconds) == ("corrector", 550, 100)
    assert (policy.tokens_per_s, corrector.tokens_per_s) == (0.5, 2.75)
    assert (policy.at_work, corrector.at_work) == (10 / 5 / 2, 55 / 5 / 2)


def test_a_policy_that_corrects_itself_has_all_tokens_and_the_second_growths_engines(tmp_path):
    step(tmp_path, "grow_dpo", GROWN, PARTS)
    (policy,) = rates(config_of(STAGE1, []), tmp_path)
    assert (policy.tokens, policy.num_engines) == (650, 2 + 4)  # correctors held two GPUs each
    assert policy.at_work == pytest.approx(65 / 5 / 6, abs=1e-3)


def test_whole_outputs_count_failures_and_judgements_since_the_pools_were_up(tmp_path):
    worked = {"queries": {"num_resumed": 0}}
    folder = step(tmp_path, "sample", worked, [(1090, [outputs("a")])], "outputs")
    at(folder / "queries.parquet", 1030)
    (policy,) = rates(config_of(STAGE2, []), tmp_path)
    assert policy.tokens == 100 + 200 + 5 + 5
    assert (policy.tokens_per_s, policy.at_work) == pytest.approx((310 / 100 / 6, 310 / 60 / 6))


ANSWERED = {"queries": {"seed": {"num_resumed": 0}, "dpo": {"num_resumed": 0}}}
# Pools are up at 1,030 s: the seed answers in trees until 1,060 s, then another in whole outputs.
BY_MODEL = {"seed/trees": (1060, tree("s", 10, 20, 30, 5)), "dpo/outputs": (1090, outputs("d"))}


def answered(run, result):
    for kind, (when, row) in BY_MODEL.items():
        folder = step(run, "evaluate", result, [(when, [row])], kind)
        at((folder / kind).parent / "queries.parquet", when - 30)
    return folder


def test_models_that_answer_in_turn_are_the_policys_engines_from_first_to_last(tmp_path):
    answered(tmp_path, ANSWERED)
    (policy,) = rates(config_of(STAGE2, []), tmp_path)
    assert (policy.step, policy.role, policy.tokens) == ("evaluate", "policy", 65 + 310)
    assert policy.tokens_per_s == pytest.approx(375 / 100 / policy.num_engines)
    assert policy.at_work == pytest.approx(375 / 60 / policy.num_engines)
    answered(tmp_path, {"queries": ANSWERED["queries"] | {"dpo": {"num_resumed": 1}}})
    (continued,) = rates(config_of(STAGE2, []), tmp_path)
    assert (continued.tokens, continued.at_work) == (375, None)


def test_answers_that_are_rewarded_when_all_are_there_took_turns_with_their_rewards(tmp_path):
    folder = answered(tmp_path, ANSWERED)
    write_part(folder / "seed" / "unrewarded" / "trees", "1050", [tree("s", 1, 2, 3, 4)], TREES)
    assert list(rates(config_of(STAGE2, []), tmp_path)) == [OneByOne("evaluate")]


def test_a_step_that_was_continued_copied_or_of_few_files_has_the_rate_of_all_seconds(tmp_path):
    step(tmp_path, "grow_dpo", {"growth": {"num_resumed": 1}}, PARTS)
    copied = [(1000 + n, rows) for n, (_, rows) in enumerate(PARTS)]
    step(tmp_path, "grow_rsft", GROWN, copied)
    step(tmp_path, "evaluate", GROWN, PARTS[-1:])
    found = list(rates(config_of(STAGE1, []), tmp_path))
    assert len(found) == 4
    assert {one.at_work for one in found} == {None}


def test_steps_in_waves_not_done_taken_or_without_texts_have_no_rate(tmp_path, capsys):
    step(tmp_path, "grow_rsft", GROWN, PARTS)
    step(tmp_path, "grow_dpo", GROWN, PARTS, seconds=0.0)  # another run's
    step(tmp_path, "select", {"num_rows": 3}, [])
    (tmp_path / "ledger" / "dpo.json").write_text('{"seconds": 3.0}')
    waves = config_of(STAGE1, ["growth.placement=waves"])
    assert list(rates(waves, tmp_path)) == [OneByOne("grow_rsft")]
    show_run({}, waves, tmp_path)
    assert "grow_rsft: its roles took turns (waves)" in capsys.readouterr().out


def test_a_run_is_shown_against_the_bounds_of_its_recipe(monkeypatch, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    step(run, "grow_rsft", GROWN, PARTS)
    assert not told(monkeypatch, tmp_path, STAGE1, "--run", str(run)).exists()
    policy, corrector = capsys.readouterr().out.split("grow_rsft, ")[1:]
    assert "policy: 100 tokens of 2 engines; of one\n  in all 100 s: 0 tokens/s, 0.0%" in policy
    assert "while they worked: 6 tokens/s, 0.1% of the bound" in corrector
