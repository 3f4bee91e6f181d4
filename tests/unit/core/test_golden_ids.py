"""Ids and seeds are the same in every version: a changed one makes every run grow anew."""

import asyncio
from dataclasses import replace

from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.core.growth import Shape, correct, respond, score, take_answer
from avr.core.messages import assistant, content_id, run_seed_in, seed_of, user
from avr.core.outputs import Output, open_set, sample_outputs
from avr.core.own_judge import OwnJudge, judge_outputs
from avr.core.trajectory import TRAJECTORY_TEMPLATES
from avr.core.tree import Prompt, plant
from avr.rows.funnel import Funnel
from avr.rows.judgement_pairs import make_judgement_pairs
from avr.rows.output_pairs import make_malformed_pairs, make_output_pairs
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.trajectories import select_trajectories
from avr.rows.tree_pairs import make_pairs

QUESTION = "What is a tree?"


def said(conversation, number, sample):
    """Critiques end with a rating; every text is another, the longer the later."""
    return f"text {number} {sample} " + "word " * (number + sample) + "says enough. Rating: [[7]]"


def grown():
    model, judge = ScriptedGenerate(said), ScriptedScore()
    prompt = Prompt.of((user(QUESTION), assistant("It depends."), user("Go on.")), "An answer.")

    async def grow():
        tree = await respond(plant(prompt, "recipe"), model, TEMPLATES, 5)
        return await score(await correct(tree, model, TEMPLATES, Shape()), judge.alone)

    return asyncio.run(grow())


def outputs():
    item = open_set(Prompt.of((user(QUESTION),)), "recipe")
    good = tuple(Output(f"o{n}", f"t{n}", f"a{n}", 0, "stop", 1, "", float(n)) for n in range(2))
    bad = Output("bad", "t", "", 0, "length", 1, "has no end marker")
    return replace(item, outputs=good, failures=(bad,))


def sampled():
    """Two outputs of one prompt and two failures, the first try of each."""

    def every_other(conversation, number, sample):
        return f"<think>draft</think>answer {number}" if sample % 2 else "malformed"

    template = TRAJECTORY_TEMPLATES["think"]
    model = ScriptedGenerate(every_other)
    return asyncio.run(sample_outputs(outputs(), model, TEMPLATES, template, 4, max_tries=1))


def judged():
    """Outputs whose judgements the model itself has judged, and that model."""
    model = ScriptedGenerate(said)
    judge = OwnJudge(num_judgements=2, meta_request="META?", max_tries=1)
    item = replace(outputs(), outputs=outputs().outputs[:1])
    return asyncio.run(judge_outputs(item, model, TEMPLATES, judge)), model


def test_ids_and_seeds_are_those_of_every_version():
    tree, item, none = grown(), outputs(), frozenset()
    funnels = {kind: Funnel(kind) for kind in KINDS}
    pairs = make_pairs([tree], TEMPLATES, none, funnels, 0.0, Shape())
    template = TRAJECTORY_TEMPLATES["think"]
    rows = select_trajectories(
        [tree], TEMPLATES, template, none, Funnel(""), unchanged_share=1, shape=Shape()
    )
    (plain,) = select_rsft(
        [plant(tree.prompt, "recipe")],
        TEMPLATES,
        frozenset({"plain_rows"}),
        Funnel(""),
        shape=Shape(),
    )
    (malformed,) = make_malformed_pairs(
        [item], TEMPLATES, none, Funnel(""), share=1.0, num_others=1
    )
    own, asked = judged()
    (answer,) = own.outputs
    rated = [replace(j, meta_rating=n) for n, j in enumerate(answer.judgements)]
    torn = replace(own, outputs=(replace(answer, judgements=tuple(rated)),))
    (of_judgements,) = make_judgement_pairs([torn], TEMPLATES, Funnel(""))
    found = {
        "prompt": tree.prompt.id,
        "tree": tree.id,
        "y0": tree.first.id,
        "y0 of the input": take_answer(plant(tree.prompt, "recipe")).first.id,
        "critiques": [critique.id for critique in tree.levels[0].critiques],
        "refinements": [response.id for _, response in tree.refined()],
        "rsft": [row.id for row in select_rsft([tree], TEMPLATES, none, Funnel(""), shape=Shape())],
        "plain": plain.id,
        "pairs": [pair.id for pair in pairs],
        "trajectory": [row.id for row in rows],
        "outputs": item.id,
        "output": [output.id for output in sampled().outputs],
        "failed output": [output.id for output in sampled().failures],
        "output pair": [
            p.id for p in make_output_pairs(lambda: [item], TEMPLATES, none, Funnel(""), 0.0)
        ],
        "malformed pair": malformed.id,
        "judgements": [judgement.id for judgement in answer.judgements],
        "judgement pair": of_judgements.id,
        "seeds of judgements": [seed for _, _, seed in asked.requests],
        "content": content_id("\u00e9", {"b": 1, "a": [None, 1.5]}),
        "half a character": content_id("\ud83d"),  # JSON may hold one
        "seeds": [seed_of("node", 0), seed_of("node", 1)],
        "seeds of runs": [run_seed_in(seed_of("node", 0), seed) for seed in (7, 1 << 22, 20250101)],
    }
    assert found == GOLDEN


GOLDEN = {
    "prompt": "b3e7cac2589e5a94710ccd40",
    "tree": "1b90a8b878c4002b372fabdd",
    "y0": "cfc58fa4a8e149423338f761",
    "y0 of the input": "1d8aa036480143a80b116cd8",
    "critiques": ["cf71e74174fd4fa754774549", "4f0129eed346496f6cb36b75"],
    "refinements": [
        "847a054159a62cf4449dd05d",
        "25ec8d389169fe15e4593b2f",
        "0e940d5a0e3739b50383cb2c",
        "c3b0c71a5643bb86572092f8",
    ],
    "rsft": ["bcfd2a20d6b7c3b86a5fd92c"],
    "plain": "17973cf565e9656521bf2111",
    "pairs": ["3a39e8aab1788d055bc39895", "71e46d2c373ba49f408343fb", "3e50743b2e032d0f3ad0a3f6"],
    "trajectory": ["5f7aec43e4ed414a179162bf"],
    "outputs": "dae722d4f47ae3eed1f624ff",
    "output": ["5333af33d4cf4325a9f364f6", "78865aac2f96f28ccd7cc4f5"],
    "failed output": ["4e990fc813b6ece013de3e6d", "2864d2e23274f18a2f1c2e96"],
    "output pair": ["d79fe8783808e311bff7a3f4"],
    "malformed pair": "e1505e84d2d99a4b2f9ec46a",
    "judgements": ["70a28b4c95cf62179c6256a2", "707ad5cf7fb5c877b8b6111e"],
    "judgement pair": "207d37a763f578c62aa7f9f9",
    "seeds of judgements": [1935053500416, 1272568807424, 569031064576],
    "content": "54cdd760ba24db458cc6b50a",
    "half a character": "8add0a1a01768666a0c17e5e",
    "seeds": [1047080535040, 2899166383104],
    "seeds of runs": [31833406112768, 6859261792526712832, 5028082604637153280],
}
