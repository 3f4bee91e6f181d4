"""Name the rules that make rows, and gather them in profiles."""

import difflib
from collections.abc import Mapping

from avr.core.search import Closing

# What each profile switches on beyond the rules that define a row or pair (method, Stage I).
# `as_released` has what the released scripts apply, `as_paper` only what the paper states beyond
# the definitions. docs/concepts/rows.md gives the reason for each rule of `recommended`.
PROFILES: dict[str, dict[str, frozenset[str]]] = {
    "rsft": {
        "as_released": frozenset({"length_control", "unique", "plain_rows"}),
        "as_paper": frozenset(),
        "recommended": frozenset(
            {"length_control", "finished", "no_loop", "discreet", "sees_fault", "unique"}
        ),
    },
    "pairs": {
        "as_released": frozenset(
            {
                "tree_gains",
                "best_group_keeps_up",
                "chosen_keeps_up",
                "rejected_no_tie",
                "with_critique_pair",
                "no_repeated_word",
                "unique",
            }
        ),
        "as_paper": frozenset(),
        "recommended": frozenset(
            {
                "best_group_keeps_up",
                "chosen_keeps_up",
                "length_control",
                "finished",
                "no_loop",
                "discreet",
                "sees_fault",
                "unique",
            }
        ),
    },
    "rft": {
        "as_released": frozenset({"unique"}),
        "as_paper": frozenset({"unique"}),
        "recommended": frozenset({"finished", "no_loop", "unique"}),
    },
    "trajectories": {
        "as_released": frozenset({"closed", "improved", "no_repeated_word", "unique"}),
        "as_paper": frozenset({"improved"}),
        "recommended": frozenset(
            {"closed", "finished", "no_loop", "discreet", "sees_fault", "unique"}
        ),
    },
    "outputs": {
        "as_released": frozenset({"answer_no_longer", "beats_reference", "unique"}),
        "as_paper": frozenset({"answer_no_longer"}),
        "recommended": frozenset(
            {"answer_no_longer", "beats_reference", "finished", "no_loop", "unique"}
        ),
    },
}


# By profile: which critique closes a trajectory, in the level that brought no better answer.
CLOSINGS: dict[str, Closing] = {
    "as_released": "best_refinement",
    "as_paper": "highest_rating",
    "recommended": "highest_rating",
}


# Rules that can be switched on and off, each with its meaning.
SWITCHES = {
    "length_control": "the text that is learned is not much longer than y0, of pairs than rejected:"
    " under +400 characters or under 1.2x",
    "finished": "no text of the row but rejected was cut off at its token limit",
    "no_repeated_word": "no word and no run of symbols and digits occurs 60 times or more, which is"
    " a hidden length cap: of RSFT in any text, of pairs in y0, in the best refinement, in the"
    " context and in the texts of the pair, of trajectories in y0, of outputs in chosen",
    "no_loop": "no text of the row but rejected ends in one phrase said over and over",
    "discreet": "no critique or refinement of the row but rejected speaks of the solution or the"
    " test that only the corrector saw, or quotes a line of five words or more of the solution; all"
    " pass where the corrector saw nothing",
    "sees_fault": "no critique of the row but rejected calls an answer right that a verifier calls"
    " wrong",
    "unique": "no exact duplicate of a row that was kept before",
    "tree_gains": "critique and refinement pairs only: the best refinement of the tree has a higher"
    " reward than y0",
    "best_group_keeps_up": "critique pairs only: the best refinement of the chosen critique has no"
    " lower reward than y0",
    "chosen_keeps_up": "refinement pairs only: chosen has no lower reward than y0",
    "rejected_no_tie": "refinement pairs only: the reward of rejected is not that of y0",
    "with_critique_pair": "refinement pairs only: two critiques of different mean rewards were"
    " refined",
    "improved": "trajectories only: the search found a better answer than y0 (where it is off, a"
    " share of traces without a change is kept: `unchanged_share`)",
    "closed": "trajectories only: the search ended with a critique that led to nothing better, or"
    " at an answer that a verifier calls right",
    "answer_no_longer": "outputs only: the chosen final answer has no more characters than the"
    " rejected one (length control)",
    "beats_reference": "outputs only: the chosen answer has a higher reward than the one that the"
    " input row brought along",
    "plain_rows": "RSFT only: an unused prompt that brought an answer along adds it as a plain row",
}


# Rules in force in every profile: the method's own conditions, and bounds that a setting gives.
ALWAYS = {
    "has_refinement": "a critique of y0 was refined",
    "positive_gain": "RSFT only: the best refinement has a higher reward than y0, or both are right"
    " and `selection.kept_share` lets some of these in",
    "kept_share": "RSFT only: rows with an answer that was right and stays right are at most"
    " `selection.kept_share` of the rows; with 0 (the default) there are none",
    "strictly_better": "pairs only: chosen has a higher reward than rejected",
    "min_margin": "pairs only, not of judgements: higher by more than `pairs.min_margin`",
    "different_text": "pairs only: chosen and rejected (of outputs their final answers) differ",
    "two_critiques": "critique pairs only: two critiques of different texts were refined",
    "two_refinements": "refinement pairs only: the critique with the highest mean reward was"
    " refined twice",
    "was_criticised": "trajectories only: y0 got a critique",
    "unchanged_share": "trajectories only: traces without a change are at most"
    " `trajectories.unchanged_share` of the rows",
    "right": "RFT only: a verifier calls the output right",
    "two_outputs": "outputs only: the prompt has two of them (four for its second pair)",
    "max_pairs": "outputs only: `pairs.max_pairs` is not reached yet",
    "malformed_output": "malformed only: the prompt has an output with a final answer and one"
    " without",
    "malformed_share": "malformed only: they are at most `pairs.malformed_share` of all pairs of"
    " outputs",
    "two_rated_judgements": "judgements only: of the answer whose ratings vary most, two critiques"
    " were rated in turn",
}


def rules_of(rows: str) -> frozenset[str]:
    """Name all rules that can be switched for `rows`, a key of PROFILES."""
    every = frozenset[str]().union(*PROFILES[rows].values())
    # No profile has this one for RSFT rows and outputs, but it can be switched on.
    return every | {"no_repeated_word"}


def switched_on(rows: str, profile: str, overrides: Mapping[str, bool]) -> frozenset[str]:
    """Return the rules in force for `rows` (a key of PROFILES): a profile with single switches.

    Raises ValueError for an unknown profile, an unknown rule, a rule without a switch, and a rule
    that these rows do not have.
    """
    profiles = PROFILES[rows]
    if profile not in profiles:
        raise ValueError(f"unknown profile {profile!r}; there are: {', '.join(profiles)}")
    fixed = sorted(set(overrides) & set(ALWAYS))
    if fixed:
        raise ValueError(f"rule {fixed[0]!r} has no switch: {ALWAYS[fixed[0]]}")
    known = sorted(rules_of(rows))
    for rule in sorted(set(overrides) - set(known)):
        there = f"there are: {', '.join(known)}"
        if rule in SWITCHES:
            raise ValueError(f"rule {rule!r} is not one of {rows} ({SWITCHES[rule]}); {there}")
        near = difflib.get_close_matches(rule, known, n=1)
        raise ValueError(
            f"unknown rule {rule!r}; {f'did you mean {near[0]!r}?' if near else there}"
        )
    on = {rule for rule, value in overrides.items() if value}
    return (profiles[profile] | on) - (set(overrides) - on)
