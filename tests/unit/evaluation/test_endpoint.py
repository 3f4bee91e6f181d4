"""A judge's server that misbehaves: what ends the run, what one duel, and what is tried again."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from avr.config.answers import EndpointConfig
from avr.config.errors import ConfigError
from avr.evaluation.endpoint import ChatEndpoint, EndpointError
from avr.evaluation.judges import JudgeError, Reply


def completion(text):
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m-2", "usage": usage}
    return 200, json.dumps(whole | {"choices": choices})


class Server:
    """Answers (status, body) in the order of a script, the last for ever."""

    def __init__(self, *script):
        self.asked, self.keys, self.headers = [], [], []
        script, server = list(script), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(json.loads(body))
                server.keys.append(self.headers["Authorization"])
                server.headers.append(dict(self.headers))
                status, text = script.pop(0) if len(script) > 1 else script[0]
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self):
        self._http.shutdown()
        self._http.server_close()


def ask(url, **more):
    settings = {
        "model": "m",
        "api_key_variable": "JUDGE_KEY",
        "request": {"temperature": 0.0},
        "max_retries": 2,
        "timeout_s": 5.0,
    }
    endpoint = ChatEndpoint(EndpointConfig(base_url=url, **settings | more))
    return asyncio.run(endpoint.ask("be a judge", "A or B?"))


@pytest.fixture
def scripted():
    servers = []

    def start(*script):
        servers.append(Server(*script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


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
        EndpointConfig(f"http://{host}:1/v1", api_key_variable="JUDGE_KEY").check_address()
    EndpointConfig("https://judge.example.org", api_key_variable="JUDGE_KEY").check_address()


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
