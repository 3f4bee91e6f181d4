"""Ask Hugging Face about what engines say and trainings leave: on a CPU, beside the driver."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from avr.core.messages import Conversation, assistant, user
from avr.core.roles import Completion
from avr.engines.chat import token_ids
from avr.engines.imports import lasting_imports
from avr.engines.weights import local_model
from avr.training.rows import completion

# All models are asked this here.
QUERY = (user("List (a) two tools and (b) three fruits."),)


@dataclass(frozen=True, slots=True)
class Greedy:
    """Hold Hugging Face's greedy text, and how far the engine's text is from it.

    `lead`: at each token of the engine's text, how far the logit of Hugging Face's own choice is
    ahead of that token's, over max(1, |logit|); the largest of all. 0 where the texts are equal.
    """

    text: str
    lead: float


@ray.remote(num_cpus=0)
class Reference:
    """Keep Transformers in an actor, which imports it once."""

    def greedy(
        self, model: str, dtype: str, conversation: Conversation, said: Completion
    ) -> Greedy:
        """Compare a greedy answer of an engine on `model` with Hugging Face's."""
        import torch

        tokenizer, network = _load(model, dtype)
        prompt = token_ids(tokenizer, conversation, to_continue=True)
        with torch.inference_mode():
            out = network.generate(
                torch.tensor([prompt]), max_new_tokens=said.num_tokens, do_sample=False
            )
            text = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
            if text == said.text:
                return Greedy(text, 0.0)
            whole = token_ids(tokenizer, (*conversation, assistant(said.text)), to_continue=False)
            tokens = completion(tokenizer, prompt, whole, "the engine's answer")
            if said.finish_reason == "length":
                # The end of the turn, which the engine did not say.
                del tokens[-1]
            logits = network(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        best = logits.float().max(dim=-1).values
        got = logits.float().gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        return Greedy(text, ((best - got) / best.abs().clamp(min=1)).max().item())

    def says(self, model: str, conversation: Conversation, num_tokens: int) -> str:
        """Return the greedy answer of a trained model.

        Raises ValueError where a weight is not a finite number.
        """
        import torch

        tokenizer, network = _load(model, "auto")
        for name, weight in network.named_parameters():
            if not torch.isfinite(weight).all():
                raise ValueError(f"{name} of {model} holds what is no number")
        prompt = token_ids(tokenizer, conversation, to_continue=True)
        with torch.inference_mode():
            out = network.generate(
                torch.tensor([prompt]), max_new_tokens=num_tokens, do_sample=False
            )
        return str(tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True))

    def has_learned(self, before: str, after: str) -> bool:
        """Say whether any weight of two model folders differs, whatever dtypes they are kept in."""
        from safetensors import safe_open

        kept: dict[str, Any] = {}
        for folder in (before, after):
            for file in sorted(Path(local_model(folder)).glob("*.safetensors")):
                with safe_open(file, framework="pt") as weights:
                    for name in weights.keys():  # noqa: SIM118
                        weight = weights.get_tensor(name).float()
                        if folder == before:
                            kept[name] = weight
                        elif name in kept and not bool((kept[name] == weight).all()):
                            return True
        return False


def _load(model: str, dtype: str) -> tuple[Any, Any]:
    with lasting_imports():
        from transformers import AutoModelForCausalLM, AutoTokenizer

    here = local_model(model)
    tokenizer = AutoTokenizer.from_pretrained(here)
    # Eager attention: others drop the caps of a model that caps its attention scores.
    network = AutoModelForCausalLM.from_pretrained(
        here, dtype=dtype, attn_implementation="eager", use_safetensors=True
    )
    return tokenizer, network.eval()
