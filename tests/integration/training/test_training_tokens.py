"""Rows through real tokenizers and TRL's own collators: what exactly is learned, decoded."""

from dataclasses import replace

import pytest
import training_models as tm

from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.core.trajectory import (
    TRAJECTORY_TEMPLATES,
    Trajectory,
    Turn,
    parse_trajectory,
    render_trajectory,
)
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.rows import IGNORED, check_prompt_parity
from avr.training.settings import check_training

pytestmark = pytest.mark.integration
STYLES = ["ours", "llama3", "chatml"]


def runs_of_labels(example):
    """The stretches of consecutive learned tokens."""
    runs, open_run = [], False
    for label in example.columns["labels"]:
        if label == IGNORED:
            open_run = False
            continue
        if not open_run:
            runs.append([])
        runs[-1].append(label)
        open_run = True
    return runs


@pytest.mark.parametrize("style", STYLES)
def test_learned_text_is_each_assistant_content_with_its_end_of_turn(style):
    tokenizer, end = tm.tokenizer_of(style), tm.SPECIAL[style][1]
    row = tm.rsft_row(3)
    learned = [tokenizer.decode(run) for run in runs_of_labels(Rsft().encode(tokenizer, row))]
    assert learned == [m["content"] + end for m in row["messages"] if m["role"] == "assistant"]


@pytest.mark.parametrize("style", STYLES)
def test_of_a_trajectory_the_whole_assistant_turn_is_learned_and_nothing_else(style):
    tokenizer, end = tm.tokenizer_of(style), tm.SPECIAL[style][1]
    loop = Trajectory("w1 w2", (Turn("w3", "w4 w5"),), "w6", "w4 w5")
    text = render_trajectory(loop, TRAJECTORY_TEMPLATES["think"])
    messages = [{"role": "user", "content": "w7 w8"}, {"role": "assistant", "content": text}]
    example = Rsft().encode(tokenizer, {"id": "loop", "messages": messages})
    (learned,) = runs_of_labels(example)
    assert tokenizer.decode(learned) == text + end
    prompt = tokenizer.decode(example.columns["input_ids"][: -len(learned)])
    assert prompt.count("w7 w8") == 1 and "<think>" not in prompt
    parsed = parse_trajectory(tokenizer.decode(learned[:-1]), TRAJECTORY_TEMPLATES["think"])
    assert parsed == loop


@pytest.mark.parametrize("style", STYLES)
def test_rsft_input_is_the_rendered_conversation_with_one_bos(style):
    tokenizer, (bos, end, _) = tm.tokenizer_of(style), tm.SPECIAL[style]
    row = tm.rsft_row(3)
    text = tokenizer.decode(Rsft().encode(tokenizer, row).columns["input_ids"])
    rendered = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    assert text == rendered[: rendered.rindex(end) + len(end)]
    assert bos is None or (text.count(bos) == 1 and text.startswith(bos))


@pytest.mark.parametrize("style", STYLES)
def test_dpo_ids_have_one_bos_one_end_and_the_prompt_of_generation(style):
    tokenizer, (bos, end, _) = tm.tokenizer_of(style), tm.SPECIAL[style]
    row = tm.dpo_row(5)
    columns = Dpo().encode(tokenizer, row).columns
    prompt = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, return_dict=False
    )
    assert columns["prompt_ids"] == list(prompt)
    assert bos is None or tokenizer.decode(prompt).count(bos) == 1
    for side in ("chosen", "rejected"):
        assert tokenizer.decode(columns[f"{side}_ids"]) == row[side][0]["content"] + end


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_the_same_tokens_however_they_are_made(style):
    check_prompt_parity(tm.tokenizer_of(style), [tm.rsft_row(1), tm.dpo_row(1)])


def test_trl_collators_take_the_columns_and_pad_without_loss():
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokenizer = tm.tokenizer_of("ours")
    examples = [Rsft().encode(tokenizer, tm.rsft_row(i, num_words=4 + 3 * i)) for i in range(2)]
    batch = DataCollatorForLanguageModeling(pad_token_id=1)([e.columns for e in examples])
    assert (batch["labels"] != IGNORED).sum().item() == sum(e.num_loss_tokens for e in examples)
    assert batch["input_ids"].shape == (2, max(e.length for e in examples))

    pairs = [Dpo().encode(tokenizer, tm.dpo_row(i)) for i in range(2)]
    batch = DataCollatorForPreference(pad_token_id=1)([e.columns for e in pairs])
    learned = batch["input_ids"][0][batch["completion_mask"][0].bool()]
    assert tokenizer.decode(learned) == tm.dpo_row(0)["chosen"][0]["content"] + "<|end|>"


@pytest.mark.parametrize(
    "method, field, meant, value",
    [
        (Rsft(), "max_lenght", "max_length", 512),
        (Dpo(), "precompute_ref_logprobs", "precompute_ref_log_probs", True),
    ],
)
def test_misspelt_field_of_trl_is_found_before_training(method, field, meant, value):
    config = TrainingConfig(trl={meant: value})
    check_training("at", method, config)
    with pytest.raises(ConfigError, match=f"at.trl.{field} .*did you mean '{meant}'"):
        check_training("at", method, replace(config, trl={field: value}))
