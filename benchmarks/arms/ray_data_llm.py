"""Grow as a user of Ray's own library (`ray.data.llm`) writes it: a chain of processors.

    respond -> critique -> refine -> reward

Each is a pool of vLLM engines of its own, so the corrector's model has two: one engine more than
ours. Rows are exploded between them, one for each sample, because the library gives back one
completion whatever `n` is. A malformed critique is dropped: a chain cannot ask again. What comes
out is a row for each scored answer; trees would have to be put together by a shuffle.

The library's stage for chat templates is used where it is right. It takes a conversation that ends
with an answer for unfinished, so for the reward model it is mended. vLLM tokenises and detokenises
by itself, as in ours: stages for that are two more processes for each processor.
"""

import os
import random
from functools import partial
from math import ceil
from pathlib import Path

import ray
from ray.data import TaskPoolStrategy
from ray.data.llm import build_processor, vLLMEngineProcessorConfig
from ray.llm._internal.batch.stages.chat_template_stage import ChatTemplateUDF

from avr.core.messages import from_dicts, to_dicts
from avr.core.prompts import (
    answer_context,
    critique_context,
    refine_context,
    scored_conversation,
)
from avr.core.ratings import is_critique

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
WRITERS = 2


def grow_in_chain(prompts, roles, templates, shape, rows_per_block, folder):
    """Grow from the Parquet file `prompts` to scored answers in `folder/answers`."""
    dataset = ray.data.read_parquet(str(prompts))
    dataset = dataset.repartition(target_num_rows_per_block=rows_per_block)
    chain = partial(_processor, roles, rows_per_block, folder)
    asked = {step: dict(roles[role].sampling) for step, role in STEPS.items()}
    dataset = chain("respond", partial(_respond, templates, asked["respond"]), _answered)(dataset)
    dataset = dataset.flat_map(partial(_to_critique, shape))
    dataset = chain("critique", partial(_critique, templates, asked["critique"]), _said)(dataset)
    dataset = dataset.flat_map(partial(_to_refine, shape))
    dataset = chain("refine", partial(_refine, templates, asked["refine"]), _said)(dataset)
    dataset = dataset.map(_to_score)
    dataset = chain("reward", _reward, _rewarded)(dataset)
    dataset.write_parquet(str(folder / "answers"), concurrency=WRITERS)


def _processor(roles, rows_per_block, folder, step, preprocess, postprocess):
    config = roles[STEPS[step]]
    scores = step == "reward"
    bundles = {} if config.use_gpu else {"bundles": [{"CPU": config.num_cpus}]}
    settings = vLLMEngineProcessorConfig(
        model_source=config.model,
        engine_kwargs=_engine_kwargs(config, scores),
        task_type="classify" if scores else "generate",
        batch_size=rows_per_block,
        max_concurrent_batches=ceil(config.max_rows_per_replica / rows_per_block),
        placement_group_config=bundles or None,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
    )
    # Behind the last engine these functions are fused with the writing, before others with a stage.
    writers = {"compute": TaskPoolStrategy(size=WRITERS)} if scores else {}
    processor = build_processor(settings, preprocess, postprocess, postprocess_map_kwargs=writers)
    stages = processor.stages
    if scores:
        template = stages["ChatTemplateStage"]
        stages["ChatTemplateStage"] = template.model_copy(update={"fn": WholeConversations})
    engine = stages["vLLMEngineStage"]
    marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": str(len(STEPS))}
    environment = {**config.env, **marks, "BENCHMARK_STEP": step}
    # The environment is the engine's alone: given to the processor it would be that of the stages
    # beside it as well, and Ray Data would not fuse those with what comes before.
    arguments = engine.map_batches_kwargs | {"runtime_env": {"env_vars": environment}}
    # A copy: a stage that is changed works out anew what it takes, and finds no bundles any more.
    copy = {"fn": _measured_stage(), "map_batches_kwargs": arguments}
    stages["vLLMEngineStage"] = engine.model_copy(update=copy)
    return processor


def _engine_kwargs(config, scores):
    from avr.engines.engine import engine_settings

    return engine_settings(config, scores=scores) | {"trust_remote_code": config.trust_remote_code}


def _measured_stage():
    """Make the library's stage with an engine that waits for the others to start, and counts.

    Made here and not on import: the processes between the engines need no vLLM.
    """
    from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

    class MeasuredStage(vLLMEngineStageUDF):
        def __init__(self, *args, **kwargs):
            from measure.measured_engine import ready

            super().__init__(*args, **kwargs)
            folder = Path(os.environ["BENCHMARK_FOLDER"])
            self._flights = ready(os.environ["BENCHMARK_STEP"], folder)

        async def _generate_with_error_handling(self, row, batch_uuid):
            self._flights.change(1)
            tokens = 0
            try:
                output = await super()._generate_with_error_handling(row, batch_uuid)
                tokens = output["num_generated_tokens"]
                return output
            finally:
                self._flights.change(-1, tokens)

    return MeasuredStage


class WholeConversations(ChatTemplateUDF):
    """Apply chat templates, as the library's stage, to conversations that nobody continues."""

    async def udf(self, batch):
        """Give token ids: as text the template's BOS would be written twice."""
        from avr.engines.chat import token_ids

        for row in batch:
            ids = token_ids(self.processor, from_dicts(row["messages"]), to_continue=False)
            key = self.IDX_IN_BATCH_COLUMN
            yield {key: row[key], "tokenized_prompt": ids}


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
    if not is_critique(row["text"]):
        return []
    return [row | {"critique": row["text"], "text": ""}] * shape.num_refinements


def _refine(templates, sampling, row):
    context = refine_context(from_dicts(row["query"]), row["answer"], row["critique"], templates)
    return _asked(context, sampling, row[MARK])


def _said(row):
    """Keep a critique's or refinement's text; a row that was let by does not come here."""
    kept = {key: row[key] for key in ("id", "query", "answer", "critique")}
    return kept | {"text": row["generated_text"].strip(), MARK: ""}


def _to_score(row):
    _check(row)
    return {key: row[key] for key in ("id", "query", "critique", "text")}


def _reward(row):
    conversation = scored_conversation(from_dicts(row["query"]), row["text"])
    return {"messages": to_dicts(conversation), "pooling_params": {"use_activation": False}}


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
