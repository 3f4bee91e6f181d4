"""Whole outputs of a recursive model, made by hand and by hypothesis. For unit tests alone."""

from hypothesis import strategies as st

from avr.core.messages import user
from avr.core.outputs import Output, OutputSet
from avr.core.trajectory import TRAJECTORY_TEMPLATES, Trajectory, Turn, render_trajectory
from avr.core.tree import Prompt

THINK = TRAJECTORY_TEMPLATES["think"]


def loop(answer, num_turns=1, draft="draft", template=THINK):
    turns = (Turn("bad", "better"),) * num_turns
    return render_trajectory(Trajectory(draft, turns, "fine", answer), template)


def output(answer, reward, draft="draft", finish="stop"):
    text = loop(answer, draft=draft)
    return Output(f"{answer}-{draft}-{reward}", text, answer, 1, finish, len(text), "", reward)


PIECES = ["word", "</think>", "<critique>\n", "<\\/think>", "\\", "\n", " ", "\u2028"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
REWARDS = st.integers(-2, 2).map(float)
OUTPUTS = st.builds(output, TEXTS.map(str.strip), REWARDS, draft=TEXTS)
LISTS = st.lists(OUTPUTS, max_size=7, unique_by=lambda output: output.id).map(tuple)
PROMPTS = st.builds(Prompt.of, TEXTS.map(lambda text: (user(text),)), st.none() | TEXTS, TEXTS)
NUMBERS = st.integers(0, 3)
SETS = st.builds(OutputSet, st.text(), PROMPTS, LISTS, LISTS, NUMBERS, st.none() | REWARDS, TEXTS)
