"""A judge's server that misbehaves: what ends the run, what one duel, and what is tried again."""

import asyncio
import json

import pytest
from fake_server import completion, starting

from avr.config.errors import ConfigError
from avr.config.roles import EndpointConfig
from avr.core.ratings import Token
from avr.evaluation.endpoint import ChatEndpoint, EndpointError, check_endpoint
from avr.evaluation.judges import JudgeError, Reply

AT = "judge.endpoint"


def ask(url, **more):
    settings = {
        "model": "m",
        "api_key_variable": "JUDGE_KEY",
        "request": {"temperature": 0.0},
        "max_retries": 2,
        "timeout_s": 5.0,
    }
    endpoint = ChatEndpoint(EndpointConfig(base_url=url, **settings | more), AT)
    return asyncio.run(endpoint.ask("be a judge", "A or B?"))


@pytest.fixture
def scripted():
    with starting() as start:
        yield start


def test_the_reply_with_its_model_and_tokens(scripted, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server = scripted(completion("[[A>B]]"))
    assert ask(server.url) == Reply("[[A>B]]", "m-2", 7, 3)
    assert server.asked == [
        {
            "model": "m",
            "temperature": 0.0,
            "messages": [
                {"role": "system", "content": "be a judge"},
                {"role": "user", "content": "A or B?"},
            ],
        }
    ]
    assert server.keys == ["Bearer secret"]


def test_openai_s_key_goes_to_no_other_address(scripted, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "planted")
    server = scripted(completion("[[A>B]]"))
    assert ask(server.url, api_key_variable=None).text == "[[A>B]]"
    assert server.keys == [None]
    assert "planted" not in str(server.headers)
    ask(server.url, api_key_variable="OPENAI_API_KEY")
    assert server.keys[1] == "Bearer planted"
    assert EndpointConfig().key_variable == "OPENAI_API_KEY"


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    for host in ("judge.example.org", "10.0.0.1", "[2001:db8::1]"):
        with pytest.raises(ConfigError, match=r"the key in JUDGE_KEY would go to .* unencrypted"):
            ask(f"http://{host}/v1")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        EndpointConfig(f"http://{host}:1/v1", api_key_variable="JUDGE_KEY").check_address(AT)
    EndpointConfig("https://judge.example.org", api_key_variable="JUDGE_KEY").check_address(AT)


def test_a_server_that_wants_a_key_where_none_is_sent_says_so(scripted):
    server = scripted((401, "{}"))
    with pytest.raises(ConfigError, match=r"no key is sent: judge\.endpoint\.api_key_variable is "):
        ask(server.url, api_key_variable=None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again_and_what_stays_ends_the_run(scripted, status):
    server = scripted((status, "{}"), (status, "{}"), completion("[[A=B]]"))
    assert ask(server.url).text == "[[A=B]]"
    assert len(server.asked) == 3
    server = scripted((status, "{}"))
    with pytest.raises(EndpointError, match=f"the judge m at .* answers {status}"):
        ask(server.url)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_ends_the_run(scripted):
    server = scripted(completion(""))
    server.close()
    with pytest.raises(EndpointError, match="did not answer, 1 times"):
        ask(server.url, max_retries=0)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_with_one_request_is_that_duel_s(scripted, status):
    server = scripted((status, json.dumps({"error": {"message": "too long"}})))
    with pytest.raises(JudgeError, match=f"answers {status}: .*too long"):
        ask(server.url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_wrong_with_all_requests_is_the_user_s_to_mend(scripted, status):
    server = scripted((status, json.dumps({"error": {"message": "no"}})))
    with pytest.raises(ConfigError, match=rf"answers {status}: .*\(JUDGE_KEY is not set on"):
        ask(server.url)


@pytest.mark.parametrize(
    "body", ["{}", '{"choices": null}', '{"choices": []}', "<html>hello</html>"]
)
def test_what_is_no_completion_is_shown(scripted, body):
    server = scripted((200, body))
    with pytest.raises(ConfigError, match=r"the judge m at .* did not return a chat completion"):
        ask(server.url)


def test_the_tokens_come_with_their_log_probabilities_where_they_were_asked_for(scripted):
    tokens = [("7", {"7": -0.1, "8": -2.5}), ("!", {})]
    server = scripted(completion("7!", tokens))
    reply = ask(server.url, request={"logprobs": True, "top_logprobs": 2})
    assert reply.tokens == (Token("7", (("7", -0.1), ("8", -2.5))), Token("!", (("!", -1.0),)))
    assert (server.asked[0]["logprobs"], server.asked[0]["top_logprobs"]) == (True, 2)
    for nothing in ({"logprobs": None}, {"logprobs": {"content": None}}, {}):
        status, body = completion("7")
        whole = json.loads(body)
        whole["choices"][0] |= nothing
        assert ask(scripted((status, json.dumps(whole))).url).tokens == ()


def reached(url, **more):
    settings = {"model": "m", "api_key_variable": None}
    endpoint = ChatEndpoint(
        EndpointConfig(base_url=url, **settings | more), "reward.judge.endpoint"
    )
    asyncio.run(endpoint.reach())


def test_a_server_is_there_with_or_without_a_list_of_models(scripted):
    server = scripted(completion(""))
    for models in ((200, '{"data": []}'), (404, "{}"), (403, "no"), (200, "<html>hello</html>")):
        server.models = models
        reached(server.url)
    assert server.listed == ["/v1/models"] * 4 and server.asked == []


def test_a_server_that_is_not_reached_or_refuses_the_key_is_told_of_by_its_setting(
    scripted, monkeypatch
):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    server = scripted(completion(""))
    server.models = 401, "{}"
    with pytest.raises(
        ConfigError, match=r"reward\.judge\.endpoint\.base_url: .* answers 401: "
    ) as e:
        reached(server.url)
    assert "(no key is sent: reward.judge.endpoint.api_key_variable is not set)" in str(e.value)
    with pytest.raises(ConfigError, match=r"answers 401: .* \(JUDGE_KEY is not set on "):
        reached(server.url, api_key_variable="JUDGE_KEY")
    server.close()
    words = r"reward\.judge\.endpoint\.base_url: http://127\.0\.0\.1:\d+/v1 is not reached: "
    with pytest.raises(ConfigError, match=words):
        reached(server.url)


def test_what_no_server_could_be_asked_by_is_told_by_its_place(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    at = "reward.members.mine.judge.endpoint"
    faults = {
        "model is not set: which model is to judge?": EndpointConfig(),
        "base_url is 'there', must have the form https://HOST/v1": EndpointConfig("there", "m"),
    }
    for words, endpoint in faults.items():
        with pytest.raises(ConfigError) as caught:
            check_endpoint(endpoint, at)
        assert str(caught.value) == f"{at}.{words}"
    keyed = EndpointConfig(model="m", api_key_variable="JUDGE_KEY")
    words = f"JUDGE_KEY is not set: it must hold the key for https://api.openai.com/v1 ({at})"
    with pytest.raises(ConfigError) as caught:
        check_endpoint(keyed, at)
    assert str(caught.value) == words
    monkeypatch.setenv("JUDGE_KEY", "secret")
    check_endpoint(keyed, at)
