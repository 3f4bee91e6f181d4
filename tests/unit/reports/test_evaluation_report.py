"""An evaluation's numbers, and that there are none where a prompt is missing."""

import json

import pytest
from evaluations import TEXTS, answered, configured, judged, reported

from avr.config.answers import Format, JudgeConfig, JudgeKind, Mode
from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.core.messages import content_id
from avr.data.answer_files import alpaca_record, arena_record
from avr.data.prompt_sets import input_rows
from avr.evaluation.arena_hard import Verdict
from avr.evaluation.judges import Preference
from avr.reports.answers import StaleError, answers_of, baseline_of, duels_of
from avr.reports.evaluation import IncompleteError, report
from avr.run.ledger import Ledger


def test_what_could_not_be_answered_is_an_empty_output_and_a_loss(tmp_path):
    config = configured(tmp_path)
    answered(config, tmp_path)
    answers = list(answers_of(config, tmp_path / "answer"))
    assert [answer.text for answer in answers] == ["alpha", "beta beta", ""]
    judged(config, tmp_path, [Preference(2.0), Preference(2.0), Preference(1.0)])
    figures, lines = reported(config, tmp_path)
    assert figures["win_rate"]["win_rate"] == pytest.approx(100 * 2 / 3)
    assert figures["without_answer"] == 1
    assert figures["failures"] == {"answer: the policy gave an empty answer, N times": 1}
    assert "length_controlled_v1" not in figures  # that is for AlpacaEval's instructions alone
    assert any("win rate 66.7%" in line for line in lines)
    assert any("not with a public leaderboard" in line for line in lines)


def test_a_prompt_that_was_not_judged_refuses_the_headline(tmp_path):
    config = configured(tmp_path)
    answered(config, tmp_path)
    judged(config, tmp_path, [Preference(2.0), "the judge did not answer", Preference(1.0)])
    with pytest.raises(IncompleteError, match=r"1 of 3 prompts .*1: the judge did not answer"):
        reported(config, tmp_path)
    figures = json.loads((tmp_path / "report.json").read_text())
    assert "win_rate" not in figures
    assert (figures["judged"], figures["not_judged"]) == (2, 1)


def test_a_part_of_the_baselines_prompts_has_no_headline(tmp_path):
    config = configured(tmp_path)
    rows = [*rows_of(tmp_path / "baseline.json"), {"instruction": "d?", "output": "delta"}]
    (tmp_path / "baseline.json").write_text(json.dumps(rows))
    answered(config, tmp_path)
    judged(config, tmp_path, [Preference(2.0), Preference(1.0), Preference(1.0)])
    figures, lines = reported(config, tmp_path)
    assert "win_rate" not in figures and "lc_noreg" not in figures
    assert figures["of_a_part"]["left_out"] == 1
    assert figures["of_a_part"]["win_rate"]["win_rate"] == pytest.approx(100 / 3)
    assert any("partial set: the baseline has 1 more prompts" in line for line in lines)


@pytest.mark.parametrize(
    ("trained_by", "chose"), [("the judge", True), ("another", None), (None, None)]
)
def test_a_judge_that_chose_what_the_model_learned_from_is_no_independent_one(
    tmp_path, trained_by, chose
):
    run = tmp_path / "run"
    if trained_by:
        by = {"name": "classifier", "role": {"model": trained_by}}
        inputs = {"reward": {"judges": [{"name": "maths"}, by]}, "policy": {"model": "the judge"}}
        ledger = Ledger(run / "ledger", print)
        ledger.step("grow_rsft", inputs, dict)
        ledger.step("select", {"trees": {"after": content_id(inputs)}}, dict)
        for step in ("grow_rsft", "evaluate"):
            (run / step).mkdir()
            (run / step / "prompts.parquet").touch()
        ledger.step(
            "evaluate", {"reward": {"judges": [by | {"role": {"model": "the judge"}}]}}, dict
        )
    model = RoleConfig(model="reward")
    judge = JudgeConfig(JudgeKind.reward_model, reward_model=model)
    config = configured(tmp_path, judge=judge, policy=RoleConfig(model=str(run / "dpo")))
    answered(config, tmp_path)
    judged(config, tmp_path, [Preference(2.0), Preference(2.0), Preference(1.0)])
    settings = {"by": {"model": "the judge"}}
    figures, lines = reported(config, tmp_path, settings)
    assert figures["judge"]["chose_training_data"] is chose
    assert any("no independent judge" in line for line in lines) == bool(chose)
    figures, _ = reported(config, tmp_path, {"by": "an:oracle"})  # whatever is configured now
    assert figures["judge"]["chose_training_data"] is None


def rows_of(file):
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.pop(1), r"baseline.json has no answer to the prompt of .*\[1\]"),
        (lambda rows: rows[2].pop("output"), r"no answer to .*\[2\]; 1 of .*no field 'output'"),
        (lambda rows: rows[0].update(instruction=""), r"\[0\]: field 'instruction' is empty"),
    ],
)
def test_a_baseline_that_leaves_a_prompt_out_is_refused(tmp_path, change, words):
    config = configured(tmp_path)
    rows = rows_of(tmp_path / "baseline.json")
    change(rows)
    (tmp_path / "baseline.json").write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=words):
        baseline_of(config)


def test_a_baseline_field_that_is_not_there_gives_no_wins(tmp_path):
    config = configured(tmp_path)
    config.baseline.answer_field = "outputs"
    with pytest.raises(ConfigError, match="no field 'outputs'"):
        baseline_of(config)


def test_a_prompt_that_cannot_be_used_refuses_a_win_rate(tmp_path):
    config = configured(tmp_path)
    rows = rows_of(tmp_path / "prompts.json")
    (tmp_path / "prompts.json").write_text(json.dumps([*rows, {"instruction": ""}]))
    with pytest.raises(ConfigError, match=r"\[3\] cannot be used .* baseline=null only answers"):
        baseline_of(config)


def test_answers_of_other_prompts_are_stale(tmp_path):
    config = configured(tmp_path)
    answered(config, tmp_path)
    rows = rows_of(tmp_path / "prompts.json")
    (tmp_path / "prompts.json").write_text(json.dumps([*rows, {"instruction": "d?"}]))
    with pytest.raises(StaleError, match=r"\[3\] has no answer"):
        list(answers_of(config, tmp_path / "answer"))


def test_answers_that_were_made_anew_were_never_judged(tmp_path):
    config = configured(tmp_path)
    answered(config, tmp_path)
    judged(config, tmp_path, [Preference(2.0), Preference(2.0), Preference(1.0)])
    (tmp_path / "baseline.json").write_text(
        json.dumps([{"instruction": q, "output": "other"} for q in TEXTS])
    )
    lines = []
    with pytest.raises(StaleError, match="3 of 3 duels were never judged"):
        report(
            config,
            tmp_path,
            list(duels_of(config, tmp_path / "answer")),
            list(answers_of(config, tmp_path / "answer")),
            {},
            lines.append,
        )


@pytest.mark.parametrize("form", ["choices", "messages"])
def test_arena_hards_own_records_are_a_baseline_by_question(tmp_path, form):
    records = [
        {"uid": f"u-{q}", "choices": [{"turns": [{"content": f"choice {q}"}]}]}
        if form == "choices"
        else {"uid": f"u-{q}", "messages": [{"content": q}, {"content": {"answer": f"choice {q}"}}]}
        for q in TEXTS
    ]
    (tmp_path / "baseline.json").write_text(json.dumps(records))
    config = configured(tmp_path, format=Format.arena_hard)
    answered(config, tmp_path)
    assert [d.baseline for _, d in duels_of(config, tmp_path / "answer")] == [
        f"choice {q}" for q in TEXTS
    ]


def test_arena_hard_counts_both_verdicts(tmp_path):
    config = configured(tmp_path, format=Format.arena_hard)
    answered(config, tmp_path)
    both = (Verdict.B_MUCH_BETTER, Verdict.A_BETTER)  # for ours, twice
    preferences = [
        Preference(2.0, both, "m-1", 10, 1),
        Preference(1.5, (Verdict.TIE,) * 2, "m-1", 10, 1),
    ]
    judged(config, tmp_path, [*preferences, Preference(1.0)])
    figures, _ = reported(config, tmp_path)
    # a?: 3 + 1 won; b?: two draws; c?: not there, which loses as what is much worse does.
    assert figures["win_rate"]["win_rate"] == pytest.approx(100 * (4 + 1) / (4 + 2 + 6))
    assert figures["win_rate"]["num_prompts"] == 3
    assert figures["judge"]["prompt_tokens"] == 20
    assert figures["judge"]["settings"] == {"by": "an:oracle"}


def test_where_both_answers_are_missing_it_is_a_tie_like_any_other(tmp_path):
    config = configured(tmp_path, format=Format.arena_hard)
    rows = rows_of(tmp_path / "baseline.json")
    rows[2]["output"] = ""
    (tmp_path / "baseline.json").write_text(json.dumps(rows))
    answered(config, tmp_path)
    judged(config, tmp_path, [Preference(2.0), Preference(2.0), Preference(1.5)])
    figures, _ = reported(config, tmp_path)
    assert figures["win_rate"]["win_rate"] == pytest.approx(100 * (2 + 2 + 1) / 6)


def test_records_are_what_the_benchmarks_read(tmp_path):
    config = configured(tmp_path)
    row = next(iter(input_rows(config.prompts)))
    assert alpaca_record(row, "instruction", "alpha", "ours") == {
        "dataset": "",
        "instruction": "a?",
        "output": "alpha",
        "generator": "ours",
    }
    record = arena_record(row, "alpha", "ours")
    assert record["uid"] == record["question_id"] == "u-a?"
    assert record["choices"][0]["turns"][0]["content"] == "alpha"
    assert record["messages"] == [
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": {"answer": "alpha"}},
    ]


def test_rounds_that_failed_are_failures_and_the_answer_stands(tmp_path):
    config = configured(tmp_path, mode=Mode.refine, rounds=2)
    answered(config, tmp_path)
    first, *_ = answers_of(config, tmp_path / "answer")
    assert (first.text, first.failure) == ("alpha", "2 of 2 rounds failed")
