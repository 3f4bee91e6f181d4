"""Wrap one vLLM engine in this process: as Generate, or as Score with raw Bradley-Terry logits."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import PoolerConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.platforms import current_platform
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind
from vllm.utils.async_utils import cancel_task_threadsafe
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from avr.config.roles import RoleConfig, is_reward_model
from avr.core.messages import Conversation, content_id, run_seed_in, user
from avr.core.roles import Completion, ContextTooLong, EngineDied, TreeFault
from avr.engines.chat import token_ids
from avr.engines.imports import spawning_here
from avr.engines.memory import visible_gpus, wait_for_memory
from avr.engines.settings import check_role
from avr.engines.waiting import answer_or_death
from avr.engines.weights import local_model, weights_id

T = TypeVar("T")


class Engine:
    """Run one model in vLLM's AsyncLLM; conversations are tokenised here.

    `role` (policy, corrector, reward model) names it in errors. The reward model scores; any other
    role generates. Construction blocks until the engine is ready (a minute or more) and raises
    ConfigError on settings that vLLM does not know.
    """

    def __init__(self, role: str, config: RoleConfig, seed: int = 0):
        self.role = role
        self.scores = is_reward_model(role)
        check_role(role, config, scores=self.scores)
        self._config = config
        self._seed = seed
        self._model = config.model
        here = local_model(config.model)
        self._tokenizer = _tokenizer(config, here)
        token_ids(self._tokenizer, (user("probe"),), to_continue=True)  # raises ChatError
        self._sampling = {} if self.scores else config.sampling
        arguments = _engine_args(config, here, self.scores)
        if current_platform.is_cuda():
            wait_for_memory(arguments.gpu_memory_utilization, visible_gpus, print)
        with spawning_here():
            self._llm = AsyncLLM.from_engine_args(arguments)
        self.max_model_len: int = self._llm.model_config.max_model_len
        self.identity = self.identity_of(config.model)
        self._requests = itertools.count()
        self._active = 0
        self._idle = asyncio.Condition()

    async def generate(
        self,
        conversation: Conversation,
        n: int,
        seed: int,
        sampling: Mapping[str, Any] | None = None,
    ) -> tuple[Completion, ...]:
        """Sample `n` texts; see `avr.core.roles.Generate`. `sampling` replaces the role's own."""
        params = SamplingParams(
            **(self._sampling if sampling is None else sampling),
            n=n,
            seed=run_seed_in(seed, self._seed),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        ids = self._fitting(conversation, to_continue=True, reserved=params.max_tokens or 0)
        request = self._llm.generate({"prompt_token_ids": ids}, params, self._request_id())
        final = await self._ask(_last(request))
        return tuple(
            Completion(o.text, str(o.finish_reason), len(o.token_ids)) for o in final.outputs
        )

    async def score(self, conversation: Conversation) -> float:
        """Return the raw logit of a whole conversation; see `avr.core.roles.Score`."""
        ids = self._fitting(conversation, to_continue=False, reserved=0)
        params = PoolingParams(task="classify", use_activation=False)
        request = self._llm.encode({"prompt_token_ids": ids}, params, self._request_id())
        final = await self._ask(_last(request))
        (reward,) = final.outputs.data.flatten().tolist()
        if not math.isfinite(reward):
            raise TreeFault(f"the reward model returned {reward}")
        return float(reward)

    @asynccontextmanager
    async def serving(self, model: str) -> Any:
        """Hold the engine on the weights of `model` (same architecture) while inside.

        New weights are loaded into the running engine, which costs a fraction of a second where a
        new engine costs a minute; requests on other weights finish first.
        """
        async with self._idle:
            await self._idle.wait_for(lambda: model == self._model or self._active == 0)
            if model != self._model:
                await self._load(model)
            self._active += 1
        try:
            yield self
        finally:
            async with self._idle:
                self._active -= 1
                self._idle.notify_all()

    async def _load(self, model: str) -> None:
        here = await asyncio.to_thread(local_model, model)
        await self._ask(self._llm.collective_rpc("take_weights", args=(here,)))
        await self._ask(self._llm.reset_prefix_cache())
        self._model = model
        self._tokenizer = _tokenizer(self._config, here)
        self.identity = self.identity_of(model)

    def identity_of(self, model: str, sampling: Mapping[str, Any] | None = None) -> str:
        """Return this engine's `Generate.identity` on other weights or under other sampling."""
        sampling = self._sampling if sampling is None else dict(sampling)
        return content_id(weights_id(model), sampling, self._seed)

    async def check_health(self) -> None:
        """Raise EngineDied where the engine's processes are gone."""
        await self._ask(self._llm.check_health())

    def shutdown(self) -> None:
        """Stop the engine's processes and free its device; nothing can be asked any more."""
        if self._llm.output_handler is not None:
            # vLLM would end it after the processes that it listens to, and it would report them as
            # dead.
            cancel_task_threadsafe(self._llm.output_handler)
        self._llm.shutdown()
        # Otherwise it would shut down again when Python ends, and find its modules gone.
        del self._llm

    def _fitting(
        self, conversation: Conversation, *, to_continue: bool, reserved: int
    ) -> list[int]:
        ids = token_ids(self._tokenizer, conversation, to_continue=to_continue)
        if len(ids) + reserved > self.max_model_len:
            raise ContextTooLong.of(self.role, len(ids), reserved, self.max_model_len)
        return ids

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Return vLLM's answer. Raises EngineDied, and TreeFault for what vLLM refuses."""
        llm = self._llm
        try:
            return await answer_or_death(question, lambda: llm.errored)
        except VLLMValidationError as error:
            raise TreeFault(str(error)) from error
        except EngineDeadError as error:
            raise EngineDied(str(error)) from error

    def _request_id(self) -> str:
        return f"{self.role}-{next(self._requests)}"


async def _last(stream: AsyncIterator[Any]) -> Any:
    """Return the one output of a request."""
    return [output async for output in stream][-1]


def _tokenizer(config: RoleConfig, model: str) -> Any:
    return AutoTokenizer.from_pretrained(model, trust_remote_code=config.trust_remote_code)


def engine_settings(config: RoleConfig, *, scores: bool) -> dict[str, Any]:
    """Return the settings of vLLM beside model and trust: the user's over ours."""
    settings: dict[str, Any] = {"disable_log_stats": True}
    settings["load_format"] = "safetensors"  # a pickle runs code when it is loaded
    settings["worker_extension_cls"] = "avr.engines.reloading.Reloading"
    if current_platform.is_cpu():
        # On a CPU a request with a seed kills the engine where it is prefilled in chunks: its
        # generator has no offset to rewind to. Every request of ours has a seed.
        settings["enable_chunked_prefill"] = False
    if scores:
        settings |= {"runner": "pooling", "pooler_config": PoolerConfig(use_activation=False)}
    settings |= config.engine
    if settings.get("tensor_parallel_size", 1) > 1:
        # The "ray" executor leaks its placement groups until the driver exits (ray#64035).
        settings.setdefault("distributed_executor_backend", "mp")
    return settings


def _engine_args(config: RoleConfig, model: str, scores: bool) -> AsyncEngineArgs:
    settings = {"enable_log_requests": False} | engine_settings(config, scores=scores)
    return AsyncEngineArgs(model=model, trust_remote_code=config.trust_remote_code, **settings)
