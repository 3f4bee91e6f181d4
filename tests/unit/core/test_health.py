"""What is told from a growth's first trees, and what becomes of a growth that fails."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import recorded
from scripted import TEMPLATES, critique, response, tree

from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.health import HealthConfig, OnFailure
from avr.config.load import load
from avr.core.forms import forms_of
from avr.core.growth import Shape
from avr.core.health import CHECKS, Finding, ailing, describe, examine, says_something
from avr.core.prompts import TEMPLATE_SETS, Templates
from avr.core.tree import Level, Verdict, tree_to_dict
from avr.data.schemas import TREES
from avr.data.tables import write_part
from avr.recipes.stage1 import Stage1Config
from avr.reports.health import health_of, health_of_all
from avr.reports.truth import truth_statistics
from avr.serving.journal import Writer
from avr.steps.health import HealthError, HealthWatch

CODE = "```python\ndef f(x):\n    return x\n```"
BETTER = CODE.replace("x\n", "x + 1\n")
GROWTHS = ("grow_rsft", "grow_dpo")
MOST = dict.fromkeys(CHECKS, 0.5)


def grown(number, says=None, refined=BETTER, first=CODE, level=None):
    """A tree with two critiques of different ratings, and a refinement of each."""
    says = says or f"Item {number} of the loop is left out."
    refinements = [replace(response(refined), id=f"r{n}") for n in "ab"]
    critiques = [
        replace(critique(f"{says} [[{1 + n % 10}]]", each), rating=1 + n % 10)
        for n, each in enumerate(refinements, 3 * number)
    ]
    found = tree(response(first), *critiques, query=f"question {number}")
    if level:
        found = replace(found, levels=(replace(found.levels[0], **level),))
    return replace(found, id=f"tree-{number}")


def failed(trees, templates=TEMPLATES):
    return {f.name: f for f in ailing(examine(trees, templates, Shape()), MOST, 8)}


def eight(**changes):
    return [grown(n, **changes) for n in range(8)]


def test_a_growth_that_works_fails_nothing():
    findings = examine(eight(), TEMPLATES, Shape())
    assert [f.name for f in findings] == list(CHECKS)
    counted = {f.name: f.num_all for f in findings}
    texts = {"gives_away": 16 + 16, "cut_off": 8 + 16 + 16, "twins": 0}
    assert counted == dict.fromkeys(CHECKS, 16) | {"barren": 8} | texts
    # Two critiques of one tree say the same, and two have one rating: that little is no fault.
    bad = {f.name: f.num_bad for f in findings if f.num_bad}
    assert bad == {"alike": 2, "same_rating": 2}
    assert ailing(findings, MOST, 8) == ()


def changed(found, change):
    """The tree with every critique changed."""
    (level,) = found.levels
    return replace(found, levels=(replace(level, critiques=tuple(map(change, level.critiques))),))


def rated(trees, rating):
    return [changed(each, lambda c: replace(c, rating=rating)) for each in trees]


def with_twins(found):
    def twice(one):
        (refinement,) = one.refinements
        twins = (replace(refinement, id=f"twin {n}") for n in range(2))
        return replace(one, refinements=(refinement, *twins))

    return changed(found, twice)


def cut_off(found):
    def cut(one):
        refinements = (replace(r, finish_reason="length") for r in one.refinements)
        return replace(one, finish_reason="length", refinements=tuple(refinements))

    return changed(found, cut)


COPY = Templates(critique_request="Is it right? Say what is wrong and why.")
SICK = {
    "barren: empty levels": (
        "barren", [replace(t, levels=(Level("y", (), 10, 2, 0, "hm"),)) for t in eight()]
    ),
    "barren: quarantined": (
        "barren", [replace(t, levels=(), quarantined="correct: too long") for t in eight()]
    ),
    "malformed": ("malformed", eight(level={"num_rejected": 3, "rejected_example": "[[5]]"})),
    "copied": ("copied", eight(says="Say what is wrong")),
    "alike": ("alike", eight(says="It works as asked.")),
    "no answer: another review": ("no_answer", eight(refined=f"{CODE}\nRating: [[5]]")),
    "no answer: the critique": (
        "no_answer", eight(says="It is left out.", refined="It is left out. [[4]]")
    ),
    "no answer: the request": ("no_answer", eight(first="1", refined="what is wrong")),
    "lost form": ("lost_form", eight(refined="The code is right as it is.")),
    "same rating": ("same_rating", rated(eight(), 7)),
    "gives away": (
        "gives_away", eight(says="As in the reference solution.", refined="See the note.")
    ),
    "unchanged": ("unchanged", eight(refined=f"{CODE}\n\n")),
    "twins": ("twins", [with_twins(each) for each in eight()]),
    "cut off": ("cut_off", [cut_off(each) for each in eight()]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "trees"), SICK.values(), ids=SICK)
def test_each_check_finds_its_fault_names_examples_and_what_to_do(name, trees):
    found = failed(trees, COPY)
    assert name in found
    finding = found[name]
    assert 1 <= len(finding.examples) <= 3 and all(finding.examples)
    told = describe(finding, 0.5)
    assert told.startswith(f"{name}: {finding.num_bad} of {finding.num_all} ")
    assert f"{finding.share:.0%}, at most 50% may" in told and "what to do: " in told
    assert told.splitlines()[1:-1] == [f"    for example: {each}" for each in finding.examples]


BARREN = {
    "respond: too long": {"quarantined": "respond: too long"},
    "too long to judge": {"levels": (Level("y", (), unscored_reason="too long to judge"),)},
    "hm": {"levels": (Level("y", ()), Level("y", (), rejected_example="hm"))},
    "no refinement": {"levels": (Level("y", ()),)},
}


@pytest.mark.parametrize(("reason", "changes"), BARREN.items(), ids=BARREN)
def test_a_tree_without_a_refinement_says_why(reason, changes):
    (bare,) = [replace(t, **{"levels": (), **changes}) for t in eight()[:1]]
    assert examine([bare], TEMPLATES, Shape())[0] == Finding("barren", 1, 1, (reason,))


def test_an_example_is_one_line_and_not_long():
    def example(text):
        level = Level("y", (), 1, rejected_example=text)
        return examine([replace(grown(0), levels=(level,))], TEMPLATES, Shape())[1].examples

    assert example(" one\n\n  two\n") == ("one / two",)
    assert example("x" * 160) == ("x" * 160,)
    assert example("x" * 161) == ("x" * 160 + "...",)


def test_critiques_that_are_all_different_are_not_alike():
    assert examine(one_each(), TEMPLATES, Shape())[3] == Finding("alike", 0, 8)
    assert examine([], TEMPLATES, Shape())[3] == Finding("alike", 0, 0)


def test_all_forms_that_are_lost_are_named():
    (found,) = examine([grown(0, first=f"{CODE}\n#### 4", refined="4")], TEMPLATES, Shape())[-1:]
    assert set(found.examples) == {"no code block, final answer in: 4"}


def test_trees_whose_answer_was_right_at_once_are_no_failure():
    right = [replace(each, levels=()) for each in eight()]
    assert {f.num_all for f in examine(right, TEMPLATES, Shape())} == {0}
    assert failed([*right[:4], *eight(refined="no code")[4:]])["lost_form"].num_all == 8
    # One that could not be grown has no level either, and is one.
    (barren, *_) = examine([*right, replace(right[0], quarantined="too long")], TEMPLATES, Shape())
    assert (barren.num_bad, barren.num_all) == (1, 1)


def judged(found, reward):
    """The tree with a verdict on y0."""
    return replace(found, response=replace(found.first, verdicts=(Verdict("code", reward),)))


def test_a_right_answer_may_stay_as_it_is():
    same = eight(refined=CODE)
    right, wrong = [judged(t, 1.0) for t in same[:6]], [judged(t, 0.99) for t in same[6:]]

    def unchanged(trees, truth):
        return next(
            f for f in examine(trees, TEMPLATES, Shape(truth=truth)) if f.name == "unchanged"
        )

    assert (unchanged(right, "code").num_all, unchanged(right + wrong, "code").num_all) == (0, 4)
    assert unchanged(right + wrong, "code").num_bad == 4
    # Who does not know which answers are right counts all.
    assert unchanged(right, "").num_bad == unchanged(right, "maths").num_bad == 12
    assert unchanged(same, "code").num_bad == 16  # nobody has judged them


def test_ratings_that_nobody_asked_for_are_not_compared():
    found = {f.name: f for f in examine(rated(eight(), None), TEMPLATES, Shape())}
    assert found["same_rating"] == Finding("same_rating", 0, 0)


def test_a_malformed_sample_counts_against_the_critiques_that_were_kept():
    level = {"num_rejected": 2, "rejected_example": "hm"}
    (finding,) = [f for f in examine(eight(level=level), COPY, Shape()) if f.name == "malformed"]
    assert (finding.num_bad, finding.num_all, finding.examples) == (16, 32, ("hm",) * 3)
    assert "malformed" not in failed(eight(level=level))  # half is not most


def test_what_an_answer_repeats_of_itself_is_no_fault():
    rated = f"{CODE}\nRating: [[5]]"
    assert "no_answer" not in failed(eight(first=rated, refined=rated))
    assert "no_answer" not in failed(eight(first="yes", refined="yes"), Templates("yes?", "yes?"))


@pytest.mark.parametrize(
    ("first", "refined"), [("B", "A"), ("Yes.", "No."), ("It is\n1/2", "It is\n3/10"), ("2", "1")]
)
def test_a_short_answer_is_an_answer(first, refined):
    assert "no_answer" not in failed(eight(first=first, refined=refined), Templates())
    assert "lost_form" not in failed(eight(first="no code", refined="nor here"))


def test_few_things_say_nothing_yet():
    trees = eight(refined="no code")
    assert examine(trees[:3], TEMPLATES, Shape())[-1] == Finding(
        "lost_form", 6, 6, ("no code block in: no code",) * 3
    )
    assert failed(trees[:1]) == {}  # two refinements
    assert says_something(Finding("alike", 0, 1), 2) and says_something(Finding("alike", 0, 1), 1)
    assert not says_something(Finding("alike", 0, 1), 3)
    assert not says_something(Finding("alike", 0, 0), 0)
    assert set(failed(trees[:2])) == {"lost_form"}


def one_each(**changes):
    """Eight trees with a critique and a refinement each."""
    trees = eight(**changes)
    first = [level.critiques[0] for (level,) in (each.levels for each in trees)]
    levels = [replace(t.levels[0], critiques=(c,)) for t, c in zip(trees, first, strict=True)]
    return [replace(t, levels=(level,)) for t, level in zip(trees, levels, strict=True)]


def test_a_tree_that_cannot_be_judged_does_not_silence_the_check_of_the_others():
    sick = one_each(refined="no code")
    one_quarantined = [replace(sick[0], levels=(), quarantined="respond: too long"), *sick[1:]]
    assert failed(one_quarantined)["lost_form"].num_all == 7
    half_with_code = [*one_each(first="no code")[:4], *sick[4:]]
    assert failed(half_with_code)["lost_form"].num_all == 4
    assert failed([*one_each(first="no code")[:5], *sick[5:]]) == {}  # three tell nothing


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        (CODE, {"code block"}),
        ("see\n  ~~~\nx\n~~~", {"code block"}),
        ("a `word` and ``` in a line", set()),
        (r"so $\boxed{5}$", {"final answer"}),
        ("2 + 2\n#### 4", {"final answer"}),
        ("It is 4.\n**Answer:** 4", {"final answer"}),
        ("The answer is 4", set()),
        ('{"a": [1]}', {"JSON"}),
        ('```json\n{"a": 1}\n```', {"JSON", "code block"}),
        ('["a", 1]', {"JSON"}),
        ("[" * 100_000, set()),
        ("[1", set()),
        ("", set()),
    ],
)
def test_forms(text, forms):
    assert forms_of(text) == forms


TEXTS = st.text("ab`#[]5 \n/10", max_size=30)
LEVELS = st.builds(
    lambda said, refined, rejected: Level(
        "id-y0", tuple(critique(c, response(r)) for c, r in zip(said, refined, strict=False)),
        num_rejected=rejected,
    ),
    st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3), st.integers(0, 5),
)  # fmt: skip


@given(st.lists(st.lists(LEVELS, max_size=2), max_size=9))
def test_shares_are_shares_and_the_order_of_trees_does_not_matter(levels):
    trees = [replace(grown(n, first="y0"), levels=tuple(each)) for n, each in enumerate(levels)]
    findings = examine(trees, TEMPLATES, Shape())
    assert all(0 <= f.num_bad <= f.num_all and 0 <= f.share <= 1 for f in findings)
    counts = [(f.name, f.num_bad, f.num_all) for f in examine(trees[::-1], TEMPLATES, Shape())]
    assert counts == [(f.name, f.num_bad, f.num_all) for f in findings]
    everything = dict.fromkeys(CHECKS, 1.0)
    assert ailing(findings, everything, 1) == ()


def watch(folder, config=None, first=8, said=None):
    ids = [f"tree-{n}" for n in range(first)]
    say = [].append if said is None else said.append
    config = config or HealthConfig()
    return HealthWatch(folder, config, "growth.health", ids, TEMPLATES, say, Shape())


def commit(folder, name, trees):
    write_part(folder, name, [tree_to_dict(each) for each in trees], TREES)


def test_a_growth_stops_when_the_last_of_its_first_trees_is_committed(tmp_path):
    trees, quarantine = tmp_path / "trees", tmp_path / "quarantine"
    sick = eight(refined="no code")
    looking = watch(tmp_path)
    looking.look_at_parts([trees, quarantine])
    commit(trees, "later", [grown(n, refined="no code") for n in range(20, 40)])
    commit(trees, "a", sick[:5])
    looking.look_at_parts([trees, quarantine])
    assert health_of(tmp_path) is None
    commit(quarantine, "b", [replace(sick[5], levels=(), quarantined="respond: too long")])
    commit(trees, "b", sick[6:])
    with pytest.raises(HealthError) as stopped:
        looking.look_at_parts([trees, quarantine])
    told = str(stopped.value)
    assert "lost_form: 14 of 14 refinements lack a form" in told and "100%, at most 50%" in told
    assert told.count("for example: no code block in: no code") == 3
    assert "growth.health.lost_form=SHARE" in told and "another run_dir" in told
    summary = health_of_all(tmp_path.parent, [tmp_path.name, *GROWTHS])[tmp_path.name]
    assert (summary["failed"], summary["stopped"]) == (["lost_form"], True)
    assert summary["checks"][-1]["share"] == 1.0


def test_a_run_that_is_continued_fails_in_the_same_way_before_anything_starts(tmp_path):
    commit(tmp_path / "trees", "a", eight(refined="no code"))
    with pytest.raises(HealthError) as first:
        watch(tmp_path).look_at_parts([tmp_path / "trees"])
    commit(tmp_path / "trees", "a", eight())  # whatever is there now
    with pytest.raises(HealthError) as again:
        watch(tmp_path).look_at_parts([tmp_path / "trees"])
    assert str(again.value) == str(first.value)


def test_thresholds_of_now_judge_what_was_found_before(tmp_path):
    commit(tmp_path / "trees", "a", eight(refined="no code"))
    said = []
    warned = HealthConfig(on_failure=OnFailure.warn)
    watch(tmp_path, warned, said=said).look_at_parts([tmp_path / "trees"])
    assert len(said) == 1 and "lost_form: 16 of 16" in said[0] and "warn" in said[0]
    assert health_of(tmp_path)["failed"] == ["lost_form"]
    lenient = HealthConfig(lost_form=1.0)
    watch(tmp_path, lenient, said=said).look_at_parts([tmp_path / "trees"])
    assert "pass all checks" in said[1]
    with pytest.raises(HealthError):
        watch(tmp_path).look_at_parts([tmp_path / "trees"])


def test_checks_that_counted_too_few_are_named(tmp_path):
    said = []
    some_with_code = [*one_each()[:3], *one_each(first="no code", refined="nor here")[3:]]
    few = {"three": one_each()[:3], "one": one_each()[:1]}
    for folder, trees in {"well": one_each(), "some": some_with_code, **few}.items():
        commit(tmp_path / folder / "trees", "a", trees)
        looking = watch(tmp_path / folder, first=len(trees), said=said)
        looking.look_at_parts([tmp_path / folder / "trees"])
    assert said == [
        "health: the first 8 trees pass all checks",
        "health: the first 8 trees pass all checks; too few to tell: lost_form",
        # All texts together are more than trees: they tell whether they are cut off, say.
        "health: the first 3 trees pass all checks; too few to tell: barren, malformed, copied,"
        " alike, no_answer, same_rating, unchanged, lost_form",
        "health: the first 1 trees are too few to tell",
    ]


def test_other_first_trees_are_examined_anew(tmp_path):
    commit(tmp_path / "trees", "a", eight(refined="no code"))
    with pytest.raises(HealthError):
        watch(tmp_path).look_at_parts([tmp_path / "trees"])
    commit(tmp_path / "trees", "b", [grown(n) for n in range(8, 20)])
    more = HealthConfig(num_trees=20)
    watch(tmp_path, more, first=20).look_at_parts([tmp_path / "trees"])
    assert health_of(tmp_path)["failed"] == []


def test_trees_of_a_wave_count_when_they_have_critiques(tmp_path):
    waves = [tmp_path / "wave-0-respond", tmp_path / "wave-1-correct"]
    commit(waves[0], "a", [replace(each, levels=()) for each in eight()])
    looking = watch(tmp_path)
    looking.look_at_parts(waves)
    assert health_of(tmp_path) is None
    commit(waves[1], "a", eight(says="It works as asked."))
    with pytest.raises(HealthError, match="alike: 16 of 16"):
        looking.look_at_parts(waves)


def test_trees_of_a_search_are_found_in_its_journal(tmp_path):
    looking = watch(tmp_path)
    with Writer(tmp_path / "journal", "shard") as writer:
        for each in eight(refined="no code")[:-1]:
            writer.commit(tree_to_dict(each))
        looking.look_at_parts([], tmp_path / "journal")
        assert health_of(tmp_path) is None
        writer.commit(tree_to_dict(eight(refined="no code")[-1]))
    with pytest.raises(HealthError, match="lost_form: 16 of 16"):
        looking.look_at_parts([], tmp_path / "journal")


def test_a_growth_of_no_trees_is_not_judged(tmp_path):
    watch(tmp_path, first=0).look_at_parts([tmp_path])
    assert health_of(tmp_path) is None and health_of_all(tmp_path, GROWTHS) == {}


def test_every_check_has_its_threshold_in_the_configuration(tmp_path):
    assert set(CHECKS) == set(vars(HealthConfig())) - {"num_trees", "on_failure"}
    file = tmp_path / "stage1.yaml"
    file.write_text("run_dir: here\npolicy: {model: m}\nreward_model: {model: r}\n")
    chosen = ["growth.health.on_failure=warn", "growth.health.alike=0.9"]
    health = load(Stage1Config, file, chosen).growth.health
    assert (health.on_failure, health.alike) == (OnFailure.warn, 0.9)
    with pytest.raises(ConfigError, match=r"growth\.health\.barren is -1"):
        check_values(load(Stage1Config, file, ["growth.health.barren=-1"]))
    with pytest.raises(ConfigError, match=r"did you mean 'growth\.health\.lost_form'"):
        load(Stage1Config, file, ["growth.health.lost_from=1"])


def test_what_was_found_is_plain_data(tmp_path):
    commit(tmp_path / "trees", "a", eight())
    watch(tmp_path).look_at_parts([tmp_path / "trees"])
    found = json.loads((tmp_path / "health.json").read_text())
    assert found["trees"] == [f"tree-{n}" for n in range(8)]
    assert [c["name"] for c in found["checks"]] == list(CHECKS)


def test_a_real_policy_that_sees_the_solution_is_stopped():
    """Of 0.5B parameters, on GSM8K: it wrote the solution out, and our note around it."""
    trees, shape = recorded()[:8], Shape(sees="reference", truth="maths")
    findings = examine(trees, TEMPLATE_SETS["maths"], shape)
    assert [f.name for f in ailing(findings, asdict(HealthConfig()), 8)] == ["gives_away"]
    (found,) = (f for f in findings if f.name == "gives_away")
    assert (found.num_bad, found.num_all) == (11, 32)  # 14 where the solutions' lines are known
    counts = truth_statistics(trees, shape)["by_depth"][1]
    assert (counts["wrong_answers"], counts["critiques_of_wrong"]) == (8, 16)
    # Read by eye, seven praise and name no fault; one of these says "do not", of a copied note.
    assert counts["no_fault_seen_in_wrong"] == 6
