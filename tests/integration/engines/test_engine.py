"""The engine class around real vLLM engines: one that generates, one that scores."""

import asyncio
import gc
import multiprocessing.spawn
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from avr.config.fields import MAX_SEED
from avr.config.load import load
from avr.core.messages import Message, assistant, seed_of, user
from avr.core.roles import ContextTooLong, EngineDied, TreeFault
from avr.engines import engine, memory
from avr.engines.chat import token_ids
from avr.engines.imports import spawning_here
from avr.engines.parity import PROBES, ParityError, check_parity, reference_rewards
from avr.hosting.host import vllm_engine
from avr.recipes.stage1 import Stage1Config

pytestmark = pytest.mark.integration
MODELS = Path("avr/miniature/models")
QUERY = (user("List (a) two tools and (b) three fruits."),)


class Waited(Exception):
    """Ends a start where it would wait."""


def test_an_engine_on_a_gpu_waits_for_its_memory_before_it_starts(monkeypatch):
    config = load(Stage1Config, "conf/miniature/stage1.yaml").policy

    def wait(share, devices, say):
        assert (0 < share <= 1, devices, say) == (True, memory.visible_gpus, print)
        raise Waited

    monkeypatch.setattr(engine.current_platform, "is_cuda", lambda: True)
    monkeypatch.setattr(engine, "wait_for_memory", wait)
    with pytest.raises(Waited):
        engine.Engine("policy", config)


class Running:
    """Engines on one event loop for all tests of this file; a start costs half a minute."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        config = load(Stage1Config, "conf/miniature/stage1.yaml")
        self.config = config
        with pytest.MonkeyPatch.context() as patch:
            for name, value in config.policy.env.items():
                patch.setenv(name, value)
            self.spawned = {}
            prepared = multiprocessing.spawn.get_preparation_data

            def noting(name):
                self.spawned[name] = prepared(name)
                return self.spawned[name]

            patch.setattr(multiprocessing.spawn, "get_preparation_data", noting)
            self.policy = vllm_engine("policy", config.policy, 0)
            self.left_alone = gc.get_freeze_count()
            self.reward_model = vllm_engine("reward_model", config.reward_model, 0)

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)


@pytest.fixture(scope="module")
def engines():
    running = Running()
    yield running
    running.policy.shutdown()
    running.reward_model.shutdown()


def test_engines_and_their_processes_leave_what_they_import_alone(engines):
    assert engines.left_alone > 100_000
    (name,) = (name for name in engines.spawned if "EngineCore" in name)
    assert engines.spawned[name]["init_main_from_name"] == "avr.engines.imports"


def test_a_spawned_process_begins_with_imports_that_are_left_alone():
    spawned = multiprocessing.get_context("spawn")
    with spawning_here(), ProcessPoolExecutor(1, mp_context=spawned) as pool:

        def there(words):
            return pool.submit(eval, words).result()

        assert there("__import__('sys').modules['__main__'].__spec__.name") == "avr.engines.imports"
        assert there("'vllm.v1.engine.core' in __import__('sys').modules")
        assert there("__import__('gc').get_freeze_count()") > 100_000
        assert there("__import__('gc').isenabled()")


def test_n_samples_come_with_finish_reason_and_token_count(engines):
    one = engines.run(engines.policy.generate(QUERY, 3, seed=5))
    assert len(one) == 3
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "policy")
    for completion in one:
        assert completion.finish_reason in ("stop", "length")
        # The closing end-of-turn token is counted and not part of the text.
        spoken = len(tokenizer(completion.text)["input_ids"])
        assert completion.num_tokens - spoken in (0, 1)


def test_same_seed_same_samples_other_seed_others(engines):
    one = engines.run(engines.policy.generate(QUERY, 4, seed=5))
    two = engines.run(engines.policy.generate(QUERY, 4, seed=5))
    other = engines.run(engines.policy.generate(QUERY, 4, seed=4096))
    assert one == two
    assert [c.text for c in one] != [c.text for c in other]


@pytest.mark.parametrize("run_seed", [20250101, 2**63, MAX_SEED])
def test_a_run_may_have_a_seed_of_any_size(engines, monkeypatch, run_seed):
    seed = seed_of("node", 0)
    plain = engines.run(engines.policy.generate(QUERY, 4, seed))
    monkeypatch.setattr(engines.policy, "_seed", run_seed)
    seeded = engines.run(engines.policy.generate(QUERY, 4, seed))
    assert seeded == engines.run(engines.policy.generate(QUERY, 4, seed))
    assert [c.text for c in seeded] != [c.text for c in plain]


def test_context_that_does_not_fit_is_named_with_its_length(engines):
    long = (user("saw " * 600),)
    with pytest.raises(ContextTooLong, match=r"too long for the policy: \d+ tokens .* 96 .* 512"):
        engines.run(engines.policy.generate(long, 1, seed=0))


def test_a_prompt_of_200_000_characters_is_named_like_any_that_is_too_long(engines):
    with pytest.raises(ContextTooLong, match=r"too long for the policy: \d{5,6} tokens"):
        engines.run(engines.policy.generate((user("saw it " * 28_572),), 1, seed=0))


def on_weights_of(engine, model, ask):
    """What `ask(engine)` gives on another model's weights and tokenizer; then its own again."""

    async def swapped():
        own = engine._model
        try:
            async with engine.serving(str(model)):
                return await ask(engine)
        finally:
            async with engine.serving(own):
                pass

    return swapped()


def test_conversation_that_the_chat_template_refuses_is_set_aside_with_its_words(engines, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(MODELS / "policy", model)
    template = model / "chat_template.jinja"
    refusal = "{{ raise_exception('no system turn, please') }}"
    asked = "{% if messages[0].role == 'system' %}" + refusal + "{% endif %}"
    template.write_text(asked + template.read_text())
    conversation = (Message("system", "Be brief."), *QUERY)
    with pytest.raises(TreeFault, match=r"the chat template refuses the .*no system turn, please"):
        engines.run(
            on_weights_of(engines.policy, model, lambda e: e.generate(conversation, 1, seed=0))
        )
    others = engines.run(
        on_weights_of(engines.policy, model, lambda e: e.generate(QUERY, 1, seed=0))
    )
    assert others[0].text


def test_reward_that_is_no_number_sets_the_tree_aside(engines, tmp_path):
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(MODELS / "reward", model)
    weights = load_file(model / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TreeFault, match="the reward model returned nan"):
        engines.run(on_weights_of(engines.reward_model, model, lambda e: e.score(PROBES[0])))
    assert engines.run(engines.reward_model.score(PROBES[0])) == pytest.approx(
        reference_rewards(str(MODELS / "reward"), tmp_path, dtype="float32")[0], abs=1e-3
    )


def test_weights_are_swapped_in_the_running_engine(engines, tmp_path):
    """After the swap the engine says, greedily, what Hugging Face says of the new weights."""

    async def answer(model):
        async with engines.policy.serving(str(model)) as engine:
            kept = engine._sampling
            engine._sampling = {"max_tokens": 24, "temperature": 0.0}
            try:
                (completion,) = await engine.generate(QUERY, 1, seed=0)
            finally:
                engine._sampling = kept
            return engine.identity, completion.text

    async def answers(models):
        return [await answer(model) for model in models]

    models = (MODELS / "policy", MODELS / "corrector", _confused(tmp_path / "model"))
    told = engines.run(answers([*models, models[0]]))
    assert told[0] == told[-1]
    assert len({text for _, text in told}) == len({identity for identity, _ in told}) == 3
    for model, (_, text) in zip(models, told, strict=False):
        assert text == _greedy_reference(model)


def _confused(folder):
    """The policy with every token in another one's place, saved as a training saves it.

    Input and output share one tensor, which is in the file once.
    """
    from safetensors.torch import load_file, save_file

    shutil.copytree(MODELS / "policy", folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    weights[name] = weights[name].roll(7, dims=0).contiguous()
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _greedy_reference(model):
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = torch.tensor([token_ids(tokenizer, QUERY, to_continue=True)])
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    out = network.generate(ids, max_new_tokens=24, do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_rewards_are_hugging_faces_raw_logits(engines, tmp_path):
    model = str(MODELS / "reward")
    reference = reference_rewards(model, tmp_path, dtype="float32")
    ours = [engines.run(engines.reward_model.score(probe)) for probe in PROBES]
    assert ours == pytest.approx(reference, abs=1e-3)
    assert reference_rewards(model, tmp_path, dtype="float32") == reference  # from the cache
    check_parity(model, ours, reference, tolerance=0.01)


def test_parity_gate_fails_closed(engines):
    """A sigmoid on the logit, vLLM's default, or a missing number must not pass."""
    logits = [engines.run(engines.reward_model.score(probe)) for probe in PROBES]
    activated = torch.sigmoid(torch.tensor(logits)).tolist()
    for wrong in (activated, [float("nan")] * len(PROBES)):
        with pytest.raises(ParityError, match="reward parity failed"):
            check_parity("m", wrong, logits, tolerance=0.05)


def test_reward_depends_on_the_answer_alone_not_on_its_company(engines):
    good = (*QUERY, assistant("Tools: a1 saw, a2 drill. Fruits: b1 apple, b2 plum, b3 pear."))
    bad = (*QUERY, assistant("Tools: a1 plum, a2 plum. Fruits: b1 saw, b2 plum, b3 saw."))

    async def together():
        return await asyncio.gather(*(engines.reward_model.score(c) for c in (good, bad) * 8))

    rewards = engines.run(together())
    alone = engines.run(engines.reward_model.score(good))
    assert rewards[0] == pytest.approx(alone, abs=1e-3)
    assert rewards[0] > rewards[1]


def test_engine_that_was_killed_says_so_whatever_it_is_asked(engines):
    """The last of this file: the policy's engine is dead after it."""
    for pid in core_pids(engines.policy):
        psutil.Process(pid).kill()

    async def serve(model):
        async with asyncio.timeout(30), engines.policy.serving(model):
            raise AssertionError("the weights were loaded into a dead engine")

    with pytest.raises(EngineDied):
        engines.run(serve(str(MODELS / "corrector")))
    with pytest.raises(EngineDied):
        engines.run(engines.policy.generate(QUERY, 1, seed=0))
    with pytest.raises(EngineDied):
        engines.run(engines.policy.check_health())


def core_pids(engine):
    """vLLM's engine core is a process; nothing of ours names it."""
    manager = engine._llm.engine_core.resources.engine_manager
    return {process.pid for process in manager.processes}
