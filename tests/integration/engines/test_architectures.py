"""Gemma-2, whose attention scores are capped, and Qwen2: engine, reward check, reload, training."""

import asyncio
from dataclasses import replace

import architectures as arch
import huggingface_hub
import pytest
import torch
import training_models as tm
from test_engine import QUERY

from avr.config.load import load
from avr.engines.chat import token_ids
from avr.engines.parity import PROBES, ParityError, check_parity, reference_rewards
from avr.engines.weights import local_model
from avr.hosting.host import vllm_engine
from avr.recipes.stage1 import Stage1Config
from avr.training import group
from avr.training.launch import train
from avr.training.methods.rsft import Rsft
from avr.training.rows import IGNORED

pytestmark = pytest.mark.integration
NAME, FIRST, SECOND = "org/qwen", "1" * 40, "2" * 40
GREEDY = {"max_tokens": 24, "temperature": 0.0}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub's cache, and no network: a Qwen2 in two revisions, the second of them `main`."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--org--qwen"
    for seed, revision in enumerate((FIRST, SECOND)):
        arch.write_qwen2(repository / "snapshots" / revision, seed)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SECOND)
    variables = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        # Ray's workers were not started by this file.
        told = group.environment
        patch.setattr(group, "environment", lambda job: told(job) | variables)
        yield repository / "snapshots"


def started(role, model):
    """An engine with the settings of the miniature recipe."""
    config = load(Stage1Config, "conf/miniature/stage1.yaml")
    settings = replace(getattr(config, role), model=str(model))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.env.items():
            patch.setenv(name, value)
        return vllm_engine(role, settings, 0)


def test_rewards_of_a_model_with_capped_attention_agree_and_without_the_cap_do_not(tmp_path):
    capped = arch.write_gemma2(tmp_path / "capped", scores=True)
    uncapped = arch.write_gemma2(tmp_path / "uncapped", cap=None, scores=True)
    engine = started("reward_model", capped)

    async def rewards():
        return [await engine.score(probe) for probe in PROBES]

    try:
        ours = asyncio.run(rewards())
    finally:
        engine.shutdown()
    check_parity("m", ours, reference_rewards(str(capped), tmp_path, "float32"), tolerance=0.01)
    with pytest.raises(ParityError, match="reward parity failed"):
        check_parity("m", ours, reference_rewards(str(uncapped), tmp_path, "float32"), 0.05)


def reloaded(first, second):
    """What an engine calls itself and says with one model, then another, then the first again."""
    engine = started("policy", first)

    async def told():
        answers = []
        for model in (first, second, first):
            async with engine.serving(model):
                (completion,) = await engine.generate(QUERY, 1, 0, GREEDY)
                answers.append((engine.identity, completion.text))
        return answers

    try:
        answers = asyncio.run(told())
    finally:
        engine.shutdown()
    assert answers[0] == answers[2]
    assert len({identity for identity, _ in answers}) == 2
    return [text for _, text in answers[:2]]


def test_a_qwen2_says_what_hugging_face_says_of_each_revision_it_is_given(hub):
    texts = reloaded(f"{NAME}@{FIRST}", f"{NAME}@{SECOND}")
    assert texts == [greedy_reference(hub / FIRST), greedy_reference(hub / SECOND)]
    assert texts[0] != texts[1]


@pytest.mark.long
def test_a_gemma2_keeps_its_caps_when_other_weights_are_loaded(tmp_path):
    first, second = (str(arch.write_gemma2(tmp_path / str(s), seed=s)) for s in (0, 1))
    texts = reloaded(first, second)
    assert texts == [greedy_reference(each, "eager") for each in (first, second)]
    assert texts[1] != greedy_reference(second, "sdpa")  # which drops the caps


def greedy_reference(model, attention="sdpa"):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = torch.tensor([token_ids(tokenizer, QUERY, to_continue=True)])
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation=attention
    )
    out = network.generate(ids, max_new_tokens=GREEDY["max_tokens"], do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def mean_loss(model, rows, attention):
    """Loss per learned token over rows, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation=attention
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    summed = learned = 0
    for row in rows:
        columns = Rsft().encode(tokenizer, row).columns
        number = sum(label != IGNORED for label in columns["labels"][1:])
        with torch.no_grad():
            loss = network(**{name: torch.tensor([ids]) for name, ids in columns.items()}).loss
        summed, learned = summed + loss.item() * number, learned + number
    return summed / learned


def one_step(model, folder):
    """The loss of a training's first step over the rows, before it has changed anything."""
    rows = [tm.rsft_row(i) for i in range(8)]
    file = tm.write_rows(folder / "rows.parquet", rows)
    config = tm.on_cpus({"max_steps": 1, "logging_steps": 1})
    result = train("rsft", Rsft(), config, model, file, folder / "out", say=lambda _: None)
    assert (result.num_trained, result.num_steps) == (8, 1)
    return result.metrics["loss"], rows


def test_a_training_of_a_model_with_capped_attention_keeps_the_caps(ray_cluster, tmp_path):
    model = arch.write_gemma2(tmp_path / "model")
    loss, rows = one_step(model, tmp_path)
    capped, dropped = (mean_loss(model, rows, attention) for attention in ("eager", "sdpa"))
    assert abs(capped - dropped) > 0.005
    assert loss == pytest.approx(capped, abs=1e-3)


@pytest.mark.long
def test_a_training_of_a_hub_model_starts_from_the_revision_that_is_named(
    ray_cluster, hub, tmp_path
):
    loss, rows = one_step(f"{NAME}@{FIRST}", tmp_path)
    first, main = (mean_loss(hub / revision, rows, "sdpa") for revision in (FIRST, SECOND))
    assert abs(first - main) > 0.01
    assert loss == pytest.approx(first, abs=1e-3)
    assert local_model(f"{NAME}@{FIRST}") == str(hub / FIRST)
