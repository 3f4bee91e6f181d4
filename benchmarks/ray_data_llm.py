"""Stage I growth as a user of Ray's own library (`ray.data.llm`) writes it: a chain of processors.

    respond -> critique -> refine -> reward

Each is a pool of vLLM engines of its own, so the corrector's model has two: one engine more than
ours. Rows are exploded between them, one for each sample, because the library gives back one
completion whatever `n` is. A malformed critique is dropped: a chain cannot ask again. What comes
out is a row for each scored answer; trees would have to be put together by a shuffle.

The library's chat template stage is used where it is right. It takes a conversation that ends with
an answer for unfinished, so the reward model's are tokenised here. vLLM tokenises and detokenises
the others itself, as in ours: the stages for that are two processes more for each processor.
"""

import random
from functools import partial
from math import ceil
from pathlib import Path

import ray
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from avr.core.messages import from_dicts, to_dicts
from avr.core.prompts import (
    answer_context,
    critique_context,
    parse_rating,
    refine_context,
    scored_conversation,
)

STEPS = {
    "respond": "policy",
    "critique": "corrector",
    "refine": "corrector",
    "reward": "reward_model",
}

# A row whose mark is not empty has failed, for the library: processors let it by, unasked. So do
# first answers travel beside the critiques and refinements of them, to be scored with these.
MARK = "__inference_error__"
BYPASS = "is only to be scored"

# Else Ray Data starts a process for each block that waits: seconds of CPU each.
FEW = TaskPoolStrategy(size=2)


def grow_in_chain(prompts, roles, templates, shape, rows_per_block, folder):
    """From the Parquet file `prompts` to scored answers in `folder/answers`."""
    dataset = ray.data.read_parquet(str(prompts))
    dataset = dataset.repartition(target_num_rows_per_block=rows_per_block)
    chain = partial(_processor, roles, rows_per_block, folder)
    asked = {step: dict(roles[role].sampling) for step, role in STEPS.items()}
    dataset = chain("respond", partial(_respond, templates, asked["respond"]), _answered)(dataset)
    dataset = dataset.flat_map(partial(_to_critique, shape))
    dataset = chain("critique", partial(_critique, templates, asked["critique"]), _said)(dataset)
    dataset = dataset.flat_map(partial(_to_refine, shape))
    dataset = chain("refine", partial(_refine, templates, asked["refine"]), _said)(dataset)
    dataset = dataset.map(
        Tokens, fn_constructor_args=(roles["reward_model"],), compute=ActorPoolStrategy(size=1)
    )
    dataset = chain("reward", _reward, _rewarded)(dataset)
    dataset.write_parquet(str(folder / "answers"), concurrency=FEW.size)


def _processor(roles, rows_per_block, folder, step, preprocess, postprocess):
    config = roles[STEPS[step]]
    scores = step == "reward"
    bundles = {} if config.use_gpu else {"bundles": [{"CPU": config.num_cpus}]}
    settings = vLLMEngineProcessorConfig(
        model_source=str(Path(config.model).resolve()),
        engine_kwargs=_engine_kwargs(config, scores),
        task_type="classify" if scores else "generate",
        batch_size=rows_per_block,
        max_concurrent_batches=ceil(config.max_rows_per_replica / rows_per_block),
        placement_group_config=bundles or None,
        chat_template_stage=not scores,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
    )
    few = {"compute": FEW} if scores else {}  # other functions run in the actors behind them
    from measured_engine import MeasuredStage

    processor = build_processor(
        settings, preprocess, postprocess, preprocess_map_kwargs=few, postprocess_map_kwargs=few
    )
    stage = processor.stages["vLLMEngineStage"]
    # The environment is the engine's alone: given to the processor it would be that of the stages
    # beside it as well, and Ray Data would not fuse those with what comes before.
    marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": str(len(STEPS))}
    environment = {**config.env, **marks, "BENCHMARK_STEP": step}
    arguments = stage.map_batches_kwargs | {"runtime_env": {"env_vars": environment}}
    # A copy: a stage that is changed works out anew what it takes, and finds no bundles any more.
    copy = {"fn": MeasuredStage, "map_batches_kwargs": arguments}
    processor.stages["vLLMEngineStage"] = stage.model_copy(update=copy)
    return processor


def _engine_kwargs(config, scores):
    from avr.engines.engine import engine_settings

    return engine_settings(config, scores=scores) | {"trust_remote_code": config.trust_remote_code}


class Tokens:
    """Conversations as the reward model reads them: whole."""

    def __init__(self, config):
        from transformers import AutoTokenizer

        trust = config.trust_remote_code
        self._tokenizer = AutoTokenizer.from_pretrained(config.model, trust_remote_code=trust)

    def __call__(self, row):
        from avr.engines.chat import token_ids

        _check(row)
        conversation = scored_conversation(from_dicts(row["query"]), row["text"])
        ids = token_ids(self._tokenizer, conversation, to_continue=False)
        kept = {key: row[key] for key in ("id", "critique", "text")}
        return kept | {"tokenized_prompt": ids}


def _respond(templates, sampling, row):
    return _asked(answer_context(from_dicts(row["query"]), templates), sampling, "")


def _answered(row):
    kept = {"id": row["id"], "query": row["query"]}
    return kept | {"answer": row["generated_text"].strip(), "critique": ""}


def _to_critique(shape, row):
    return [
        row | {"text": row["answer"], MARK: BYPASS},
        *(row | {"text": "", MARK: ""} for _ in range(shape.num_critiques)),
    ]


def _critique(templates, sampling, row):
    query = from_dicts(row["query"])
    return _asked(critique_context(query, row["answer"], templates), sampling, row[MARK])


def _to_refine(shape, row):
    _check(row)
    if row[MARK] == BYPASS:
        kept = ("id", "query", "answer", "critique", "text", MARK)
        return [{key: row[key] for key in kept}]
    if parse_rating(row["text"]) is None:
        return []
    return [row | {"critique": row["text"], "text": ""}] * shape.num_refinements


def _refine(templates, sampling, row):
    context = refine_context(from_dicts(row["query"]), row["answer"], row["critique"], templates)
    return _asked(context, sampling, row[MARK])


def _said(row):
    """Of a critique or refinement; a row that was let by does not come here."""
    kept = {key: row[key] for key in ("id", "query", "answer", "critique")}
    return kept | {"text": row["generated_text"].strip(), MARK: ""}


def _reward(row):
    return {"pooling_params": {"use_activation": False}}


def _rewarded(row):
    kept = {key: row[key] for key in ("id", "critique", "text")}
    return kept | {"reward": float(row["embeddings"][0])}


def _asked(conversation, sampling, mark):
    seed = random.getrandbits(31)
    messages = to_dicts(conversation)
    return {"messages": messages, "sampling_params": {**sampling, "seed": seed}, MARK: mark}


def _check(row):
    if row[MARK] not in ("", BYPASS):
        raise RuntimeError(row[MARK])
