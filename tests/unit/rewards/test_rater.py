"""A model on a server as the reward: what it is asked, and what its replies come to."""

import asyncio
import json
import math
import pickle
from dataclasses import replace

import pytest
from fake_server import completion, starting
from scripted import critique, response, tree

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig, RaterConfig, RewardConfig, RewardKind
from avr.config.roles import EndpointConfig, RoleConfig
from avr.core.growth import score
from avr.core.messages import user
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.evaluation.endpoint import EndpointError
from avr.rewards.reward import reward_of
from avr.run.decided import form_of

PROMPT = Prompt.of((user("How many?"),), reference="#### 18")
MATHS = JudgingConfig(RewardKind.maths)


@pytest.fixture
def scripted():
    with starting() as start:
        yield start


def judging(url, **more):
    """A judge's settings; those of its server, and those beside it."""
    own = {name: more.pop(name) for name in ("rubric", "best", "max_tries") if name in more}
    server = {"model": "m", "api_key_variable": None, "max_retries": 0, "timeout_s": 5.0} | more
    return RaterConfig(endpoint=EndpointConfig(url, **server), **own)


def alone(url, **more):
    return reward_of(RewardConfig(RewardKind.judge, judge=judging(url, **more)), None)


def member(url, **more):
    return JudgingConfig(RewardKind.judge, judge=judging(url, **more))


def rewarded(reward, answer):
    return asyncio.run(reward.rewarding(pytest.fail).reward(PROMPT, answer))


def rating(text, **shares):
    likely = {token: math.log(share) for token, share in shares.items()}
    return completion(text, [(text, likely)])


def test_the_reward_is_the_expected_rating_as_a_share_of_the_scale(scripted):
    # 0.5 * 9 + 0.25 * 7 + 0.125 * 1 over 0.875, of what is a rating: 51/7, and (51/7 - 1) / 8.
    server = scripted(rating("9", **{"9": 0.5, "7": 0.25, "1": 0.125, "The": 0.125}))
    reward, (verdict,) = rewarded(alone(server.url), "It is 18.")
    assert reward == verdict.reward == pytest.approx((51 / 7 - 1) / 8)
    assert (verdict.by, verdict.feedback) == ("judge", "")
    (asked,) = server.asked
    (message,) = asked.pop("messages")
    assert asked == {"model": "m", "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
    assert message["role"] == "user"
    assert "<request>\nHow many?\n</request>\n\n<answer>\nIt is 18.\n" in message["content"]
    assert "#### 18" not in message["content"]


def test_a_server_without_log_probabilities_gives_the_number_in_its_text(scripted):
    server = scripted(completion("Rating: 7"))
    assert rewarded(alone(server.url), "18")[0] == 0.75
    assert rewarded(alone(server.url, request={"logprobs": False}), "18")[0] == 0.75
    assert {"logprobs", "top_logprobs"} & set(server.asked[1]) == {"logprobs"}
    rewarded(alone(server.url, request={"top_logprobs": 5, "max_tokens": 4}), "18")
    assert (server.asked[2]["top_logprobs"], server.asked[2]["max_tokens"]) == (5, 4)
    assert server.asked[2]["logprobs"] is True


def test_the_scale_and_the_reference_are_the_rubric_s(scripted):
    server = scripted(completion("4"))
    rubric = "{prompt} {answer} {reference} 1 to {best}"
    reward = alone(server.url, rubric=rubric, best=5)
    assert rewarded(reward, "{reference}")[0] == 0.75
    assert server.asked[0]["messages"][0]["content"] == "How many? {reference} #### 18 1 to 5"
    with pytest.raises(ConfigError, match=r"prompts\.rsft\.reference_field is not set: the reward"):
        reward.check(PromptsConfig(), "prompts.rsft")
    reward.check(PromptsConfig(reference_field="answer"), "prompts.rsft")
    alone(server.url).check(PromptsConfig(), "prompts.rsft")


def test_a_reply_without_a_rating_is_asked_for_again_and_at_last_is_this_answer_s_fault(scripted):
    server = scripted(completion("Good."), completion("10"), completion("3"))
    assert rewarded(alone(server.url), "18")[0] == 0.25
    assert len(server.asked) == 3
    server = scripted(completion("Good."))
    words = (
        "the judge 'judge' gave no rating from 1 to 9, 2 times; its last reply ended with 'Good."
    )
    with pytest.raises(TreeFault, match=words):
        rewarded(alone(server.url, max_tries=2), "18")
    assert len(server.asked) == 2


def test_a_request_that_is_refused_is_this_answer_s_fault_and_a_server_that_fails_everybody_s(
    scripted,
):
    refuses = scripted((400, json.dumps({"error": {"message": "too long"}})))
    with pytest.raises(TreeFault, match=r"the judge m at .* answers 400: .*too long"):
        rewarded(alone(refuses.url), "18")
    with pytest.raises(EndpointError, match=r"the judge m at .* answers 500"):
        rewarded(alone(scripted((500, "{}")).url), "18")
    words = r"answers 401: .*\(no key is sent: reward\.judge\.endpoint\.api_key_variable is not set"
    with pytest.raises(ConfigError, match=words):
        rewarded(alone(scripted((401, "{}")).url), "18")


def test_a_refinement_without_a_rating_is_left_out_and_a_first_answer_without_one_ends_the_tree(
    scripted,
):
    rewarding = alone(scripted(completion("Good.")).url).rewarding(pytest.fail)
    grown = tree(response("18"), critique("wrong", response("19"), response("")))
    with pytest.raises(TreeFault, match="gave no rating"):
        asyncio.run(score(grown, rewarding))
    first = replace(grown.first, reward=0.5, verdicts=(Verdict("judge", 0.5),))
    (level,) = asyncio.run(score(replace(grown, response=first), rewarding)).levels
    assert [r.reward for c in level.critiques for r in c.refinements] == [0.0]
    assert level.num_unscored == 1 and "gave no rating from 1 to 9" in level.unscored_reason


def test_a_judge_beside_a_verifier_is_one_voice_of_two(scripted):
    server = scripted(rating("8", **{"8": 0.75, "4": 0.25}))
    members = {"right": MATHS, "good": member(server.url)}
    reward = reward_of(RewardConfig(RewardKind.ensemble, members=members), None)
    assert reward.truth_name == "right" and reward.pools == {}
    found, verdicts = rewarded(reward, "#### 18")
    # 0.75 * 8 + 0.25 * 4 = 7, and (7 - 1) / 8 = 0.75; with the 1 of `right` the mean is 0.875.
    assert [(v.by, v.reward) for v in verdicts] == [("right", 1.0), ("good", pytest.approx(0.75))]
    assert found == pytest.approx(0.875)
    assert not reward.judges[1].exact  # it is no truth
    assert (
        reward_of(RewardConfig(RewardKind.ensemble, members={"a": members["good"]}), None).truth
        is None
    )


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (None, "judge.endpoint is not set: which server has the judge?"),
        (RaterConfig(), "judge.endpoint is not set: which server has the judge?"),
        (judging("there", rubric="{prompt}"), "judge.rubric has no {answer}: the judge would not"),
        (judging("there", best=10), "judge.best is 10, must be 2 to 9: a rating of one digit is"),
    ],
)
def test_a_judge_that_cannot_be_names_the_setting_by_its_place(judge, words):
    one = JudgingConfig(RewardKind.judge, judge=judge)
    for at, config in {
        "reward": RewardConfig(RewardKind.judge, judge=judge),
        "reward.members.mine": RewardConfig(RewardKind.ensemble, members={"mine": one}),
    }.items():
        with pytest.raises(ConfigError) as caught:
            reward_of(config, None)
        assert str(caught.value).startswith(f"{at}.{words}")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            RewardConfig(RewardKind.maths, judge=judging("x")),
            "reward.judge is set, but reward.kind is maths, not judge",
        ),
        (
            RewardConfig(RewardKind.ensemble, members={"a": MATHS}, judge=judging("x")),
            "reward.judge is set, but reward.kind is ensemble, not judge",
        ),
        (
            RewardConfig(RewardKind.ensemble, members={"a": replace(MATHS, judge=judging("x"))}),
            "reward.members.a.judge is set, but reward.members.a.kind is maths, not judge",
        ),
    ],
)
def test_a_judge_beside_another_kind_is_refused(config, words):
    with pytest.raises(ConfigError) as caught:
        reward_of(config, None)
    assert str(caught.value) == words


def test_a_reward_model_beside_a_judge_is_refused():
    with pytest.raises(ConfigError, match=r"reward_model is set, but reward\.kind is judge"):
        reward_of(RewardConfig(RewardKind.judge, judge=judging("x")), RoleConfig(model="model"))


def test_what_no_server_could_be_asked_by_is_an_error_before_anything_starts(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    at = r"reward\.members\.mine\.judge\.endpoint"
    for words, more in (
        (rf"{at}\.model is not set: which model is to judge", {"model": None}),
        (rf"{at}\.base_url is 'there', must have the form", {}),
        (
            rf"JUDGE_KEY is not set: .*\({at}\)",
            {"url": "https://x/v1", "api_key_variable": "JUDGE_KEY"},
        ),
    ):
        one = member(**{"url": "there"} | more)
        reward = reward_of(RewardConfig(RewardKind.ensemble, members={"mine": one}), None)
        with pytest.raises(ConfigError, match=words):
            reward.check(PromptsConfig(), "prompts.rsft")


def test_a_server_that_is_not_there_is_told_of_before_engines_start(scripted):
    server = scripted(completion("7"))
    members = {"right": MATHS, "mine": member(server.url)}
    reward = reward_of(RewardConfig(RewardKind.ensemble, members=members), None)
    reward.reach()
    assert server.listed == ["/v1/models"] and len(server.asked) == 1
    server.close()
    words = r"reward\.members\.mine\.judge\.endpoint\.base_url: .* is not reached: "
    with pytest.raises(ConfigError, match=words):
        reward.reach()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            400,
            r"reward\.judge\.endpoint\.request: .* answers 400: .*; we add logprobs",
        ),
        (404, r"the judge m at .* answers 404: .*no such thing"),
    ],
)
def test_a_server_that_refuses_every_request_is_told_of_before_engines_start(
    scripted, status, words
):
    refuses = scripted((status, json.dumps({"error": {"message": "no such thing"}})))
    with pytest.raises(ConfigError, match=words):
        alone(refuses.url).reach()


def test_a_judge_travels_to_other_processes_after_it_was_asked(scripted):
    server = scripted(completion("7"))
    (judge,) = alone(server.url).judges
    for one in (judge, pickle.loads(pickle.dumps(judge))):
        assert one == judge
        assert asyncio.run(one.score(PROMPT, "18")).reward == 0.75


def test_many_answers_are_asked_about_by_one_client_in_a_loop_s_life(scripted):
    server = scripted(completion("7"))
    (judge,) = alone(server.url).judges

    async def all_of(number):
        return await asyncio.gather(*(judge.score(PROMPT, f"{n}") for n in range(number)))

    assert {verdict.reward for verdict in asyncio.run(all_of(20))} == {0.75}
    assert len(server.asked) == 20
    # Another server under the same setting has a client of its own.
    (other,) = alone(scripted(completion("1")).url).judges

    async def both():
        return [(await one.score(PROMPT, "18")).reward for one in (judge, other, judge)]

    assert asyncio.run(both()) == [0.75, 0.0, 0.75]


def form(**more):
    (judge,) = alone(**{"url": "https://one/v1"} | more).judges
    return form_of(judge, lambda value: NotImplemented)


@pytest.mark.parametrize(
    "more",
    [
        {"rubric": "{prompt}{answer}"},
        {"best": 5},
        {"max_tries": 4},
        {"url": "https://two/v1"},
        {"model": "other"},
        {"request": {"temperature": 1.0}},
    ],
)
def test_what_decides_a_rating_decides_the_step(more):
    assert form(**more) != form()


def test_what_changes_only_speed_decides_nothing():
    for more in ({"timeout_s": 9.0}, {"max_retries": 3}, {"api_key_variable": "KEY"}):
        assert form(**more) == form()
