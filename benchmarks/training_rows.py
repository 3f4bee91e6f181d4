"""What the training benchmark trains on, and its larger model: made from the miniature world."""

import random

from avr.miniature import demonstrations, world
from avr.miniature.prompts import draw_requests
from avr.miniature.thinking import thinking_demonstration


def conversations(like):
    """Endless RSFT rows: conversations as of Stage I, or whole loops as of Stage II."""
    stage1, stage2 = demonstrations.policy_demonstration, thinking_demonstration
    converse = {"stage1": stage1, "stage2": stage2}[like]
    for index, request in enumerate(draw_requests("train", random.Random("rsft rows"))):
        turns = converse(request, random.Random(index))
        messages = [_message(turn.role, turn.text) for turn in turns]
        yield {"id": f"rsft-{index}", "messages": messages, "node_ids": [], "gain": 0.0}


def pairs():
    """Endless preference pairs of the three kinds in turn: no fault before the policy's own."""
    good, own = demonstrations.CORRECTOR, demonstrations.POLICY
    for index, request in enumerate(draw_requests("train", random.Random("pairs"))):
        rng = random.Random(index)
        first = demonstrations.draw_answer(request, own, rng)
        critique = demonstrations.draw_critique(request, first, good, rng)
        prompt = [_message("user", world.render_prompt(request))]
        kind, render = ("generation", "critique", "refinement")[index % 3], world.render_answer
        sides = [demonstrations.draw_answer(request, good, rng), first]
        if kind != "generation":
            prompt.append(_message("assistant", render(request, first)))
            prompt.append(_message("user", world.CHECK_REQUEST))
        if kind == "critique":
            render = world.render_critique
            sides = [critique, demonstrations.draw_critique(request, first, own, rng)]
        if kind == "refinement":
            prompt.append(_message("assistant", world.render_critique(request, critique)))
            prompt.append(_message("user", world.REFINE_REQUEST))
            refine = demonstrations.draw_refinement
            sides = [refine(request, critique, profile, rng) for profile in (good, own)]
        chosen, rejected = ([_message("assistant", render(request, side))] for side in sides)
        if chosen != rejected:
            row = {"id": f"pair-{index}", "kind": kind, "prompt": prompt, "node_ids": []}
            yield row | {"chosen": chosen, "rejected": rejected}


def _message(role, content):
    return {"role": role, "content": content}


def write_large(policy, folder, num_layers):
    """A random Llama in float32 with the policy's tokenizer; 57M parameters with 8 layers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(policy)
    config.update({"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": num_layers})
    config.update({"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
