"""Make the rows of the training benchmark, and its larger model, from the miniature world."""

import random
from itertools import chain

from avr.miniature import world
from avr.miniature.making import demonstrations
from avr.miniature.making.thinking import thinking_demonstration
from avr.miniature.prompts import draw_requests
from avr.miniature.vocabulary import CATEGORIES

# Words of Llama-3-8B-Instruct's 805 published answers to AlpacaEval's instructions, and of these
# (AlpacaEval's own results): the shortest, nine deciles, the longest. A word is one token here.
ANSWER = (1, 59, 131, 201, 265, 316, 354, 395, 437, 505, 972)
INSTRUCTION = (2, 7, 10, 12, 14, 18, 22, 27, 38, 59, 351)
WORDS = tuple(chain.from_iterable(CATEGORIES.values()))


def conversations(like):
    """Make endless RSFT rows: as of Stage I, whole loops as of Stage II, or as long as chats."""
    return chats() if like == "chat" else _demonstrated(like)


def _demonstrated(like):
    stage1, stage2 = demonstrations.policy_demonstration, thinking_demonstration
    converse = {"stage1": stage1, "stage2": stage2}[like]
    for index, request in enumerate(draw_requests("train", random.Random("rsft rows"))):
        turns = converse(request, random.Random(index))
        messages = [_message(turn.role, turn.text) for turn in turns]
        yield {"id": f"rsft-{index}", "messages": messages, "node_ids": [], "gain": 0.0}


def chats():
    """Make endless Stage I rows without meaning: texts as long as answers in chats are.

    The refinement is as long as its answer to a tenth, the critique has a length of its own.
    """
    for index, rng in enumerate(map(random.Random, range(1 << 62))):
        answer = drawn(ANSWER, rng)
        numbers = (drawn(INSTRUCTION, rng), answer, 8, drawn(ANSWER, rng), 8)
        texts = [*numbers, max(1, round(answer * rng.uniform(0.9, 1.1)))]
        messages = [
            _message(("user", "assistant")[turn % 2], " ".join(rng.choices(WORDS, k=number)))
            for turn, number in enumerate(texts)
        ]
        yield {"id": f"rsft-{index}", "messages": messages, "node_ids": [], "gain": 0.0}


def drawn(deciles, rng):
    """Draw a length from the distribution whose least, deciles and most are given."""
    place = rng.uniform(0, len(deciles) - 1)
    low = min(int(place), len(deciles) - 2)
    return round(deciles[low] + (place - low) * (deciles[low + 1] - deciles[low]))


def chat_pairs():
    """Make endless pairs of chats: two answers, two critiques or two refinements, by turns."""
    for index, row in enumerate(chats()):
        rng = random.Random(f"other {index}")
        cut = 1 + 2 * (index % 3)
        chosen = row["messages"][cut]
        rejected = _message("assistant", " ".join(rng.choices(WORDS, k=drawn(ANSWER, rng))))
        kind = ("generation", "critique", "refinement")[index % 3]
        row = {"id": f"pair-{index}", "kind": kind, "prompt": row["messages"][:cut], "node_ids": []}
        yield row | {"chosen": [chosen], "rejected": [rejected]}


def pairs(like):
    """Make endless preference pairs of three kinds in turn: miniature world, or chats."""
    return chat_pairs() if like == "chat" else _drawn_pairs()


def _drawn_pairs():
    """Draw pairs in the miniature world; prompts have no faults but the policy's own."""
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


def write_large(policy, folder, num_layers, heads=12):
    """Write a random Llama in float32 with the policy's tokenizer; 8 layers: 57M parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(policy)
    config.update({"num_hidden_layers": num_layers, "max_position_embeddings": 8192})
    config.update({"hidden_size": 64 * heads, "intermediate_size": 512 * heads // 3})
    config.update({"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 64})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
