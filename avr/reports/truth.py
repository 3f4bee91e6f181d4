"""Count what correcting does to right and wrong answers, where a verifier knows which are which."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from avr.core.forms import forms_of, gives_away, sees_no_fault
from avr.core.growth import Shape, is_right, unseen_of
from avr.core.tree import Level, RefinementTree, Response


def truth_statistics(trees: Iterable[RefinementTree], shape: Shape) -> dict[str, Any]:
    """Count right first answers and, by depth, what critiques and refinements do to answers.

    `shape` is the one that they were grown under, with the judge that knows. An answer is *mended*
    where it was wrong and one of its refinements is right, and *broken* where it was right and one
    of them is wrong.
    """
    first, by_depth = Counter[str](), dict[int, Counter[str]]()
    for tree in trees:
        first["answers"] += 1
        first["right"] += is_right(tree.first, shape.truth)
        answers = {response.id: response for response in tree.responses()}
        for depth, level in enumerate(tree.levels, start=1):
            counts = by_depth.setdefault(depth, Counter())
            counts.update(_of_level(level, answers[level.of], shape.truth, unseen_of(tree, shape)))
    depths = {depth: dict(counts) for depth, counts in sorted(by_depth.items())}
    return {"first": dict(first), "by_depth": depths}


def _of_level(level: Level, answer: Response, truth: str, unseen: str) -> Counter[str]:
    right = is_right(answer, truth)
    texts = [refinement for critique in level.critiques for refinement in critique.refinements]
    rights = sum(is_right(refinement, truth) for refinement in texts)
    no_fault = sum(sees_no_fault(critique.text) for critique in level.critiques)
    kept_form = forms_of(answer.text)
    said = [*(critique.text for critique in level.critiques), *(text.text for text in texts)]
    state = "right" if right else "wrong"
    return Counter(
        {
            f"{state}_answers": 1,
            f"refinements_of_{state}": len(texts),
            f"right_refinements_of_{state}": rights,
            f"critiques_of_{state}": len(level.critiques),
            f"no_fault_seen_in_{state}": no_fault,
            "mended": int(not right and rights > 0),
            "broken": int(right and rights < len(texts)),
            "in_form": sum(kept_form <= forms_of(refinement.text) for refinement in texts),
            "give_away": sum(gives_away(text, unseen) for text in said),
        }
    )


def truth_figures(statistics: Mapping[str, Any]) -> dict[str, str]:
    """Make lines of a column of the statistics, over all depths."""
    first, total = statistics["first"], Counter[str]()
    for counts in statistics["by_depth"].values():
        total.update(counts)
    texts = total["refinements_of_right"] + total["refinements_of_wrong"]
    critiques = total["critiques_of_right"] + total["critiques_of_wrong"]
    return {
        "right at once": _share(first.get("right", 0), first.get("answers", 0)),
        "wrong answers mended": _share(total["mended"], total["wrong_answers"]),
        "  refinements of them that are right": _share(
            total["right_refinements_of_wrong"], total["refinements_of_wrong"]
        ),
        "  critiques that see no fault": _share(
            total["no_fault_seen_in_wrong"], total["critiques_of_wrong"]
        ),
        "right answers broken": _share(total["broken"], total["right_answers"]),
        "  refinements of them that stay right": _share(
            total["right_refinements_of_right"], total["refinements_of_right"]
        ),
        "refinements in the answer's form": _share(total["in_form"], texts),
        "texts that give away what was seen": _share(total["give_away"], texts + critiques),
    }


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})" if whole else "-"
