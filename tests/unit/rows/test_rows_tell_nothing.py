"""Rows hold nothing of what a corrector was shown, nor what a verifier knows or says."""

import asyncio
from zlib import crc32

import pytest
from made_rows import pairs_of, rows_of
from scripted import TEMPLATES, ScriptedGenerate
from test_output_pairs import malformed_pairs_of
from test_output_pairs import pairs_of as output_pairs_of
from test_unrolling import rows_of as trajectories_of
from verified import FEEDBACK, REFERENCE, SECRETS, Truth, prompt_of, searched
from whole_outputs import THINK, loop

from avr.core.growth import Shape
from avr.core.outputs import open_set, sample_outputs, score_failures, score_outputs
from avr.core.reward import Rewarding


def by_chance(text):
    """0, a half or 1, which the text decides."""
    return crc32(text.encode()) % 3 / 2


@pytest.mark.parametrize("context", ["answer", "history"])
@pytest.mark.parametrize("sees", ["reference", "feedback"])
def test_no_row_made_of_trees_holds_what_the_corrector_was_shown(sees, context):
    shape = Shape(2, 2, sees=sees, truth="maths", context=context, criticised_share=0.5)
    trees, shown = [], ""
    for n in range(60):

        def reward(text, salt=n):
            return by_chance(f"{salt} {text}")

        tree, asked = searched(shape, reward, 1 + n % 3, prompt_of(f"question {n}"))
        trees, shown = [*trees, tree], shown + str(asked)
    pairs, _ = pairs_of(*trees)
    made = {
        "rsft": rows_of(*trees)[0],
        **pairs,
        "trajectories": trajectories_of(*trees)[0],
        "improving": trajectories_of(*trees, switches=("improved",))[0],
    }
    assert (REFERENCE if sees == "reference" else FEEDBACK) in shown
    assert all(made.values()) and len(made) == 6
    assert not [(kind, s) for kind, rows in made.items() for s in SECRETS if s in str(rows)]


def test_no_pair_of_outputs_holds_what_the_verifier_said():
    sets = []

    async def made(n):
        texts = [loop(f"answer {n}.{sample}") for sample in range(4)] + ["no final answer"]
        policy = ScriptedGenerate(lambda _, number, sample: texts[sample])
        opened = open_set(prompt_of(f"question {n}"), "recipe")
        outputs = await sample_outputs(opened, policy, TEMPLATES, THINK, 5, 1)
        truth = Rewarding.by(Truth(by_chance))
        assert not any(secret in str(policy.requests) for secret in SECRETS)
        return await score_failures(await score_outputs(outputs, truth), truth)

    sets = [asyncio.run(made(n)) for n in range(20)]
    assert FEEDBACK in str(sets)
    pairs, malformed = output_pairs_of(*sets)[0], malformed_pairs_of(*sets, switches=())[0]
    assert pairs and malformed
    assert not [secret for secret in SECRETS if secret in str([pairs, malformed])]
