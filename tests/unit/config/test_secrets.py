"""Settings are written down: what is a secret, or may be one, is refused wherever it stands."""

import pytest

from avr.config.answers import EvaluateConfig
from avr.config.checks import check_secrets, check_values
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.recipes.stage1 import Stage1Config

SECRET = "planted-in-settings-555"
HEADERS = "judge.endpoint.request.extra_headers"
PLACES = [
    f"{HEADERS}={{api-key: {SECRET}}}",
    f"{HEADERS}={{x-api-key: {SECRET}}}",
    f"{HEADERS}={{Authorization: Bearer {SECRET}}}",
    f"{HEADERS}={{X-Team: Bearer {SECRET}}}",
    f"{HEADERS}={{X-Team: '${{oc.env:JUDGE_KEY}}'}}",
    f"judge.endpoint.request={{extra_body: {{private_key: {SECRET}}}}}",
    f"judge.endpoint.request={{bearer: {SECRET}}}",
    f"judge.endpoint.request={{accesstoken: {SECRET}}}",
    f"judge.endpoint.request={{access-token: {SECRET}}}",
    f"judge.endpoint.request={{token: [{SECRET}]}}",
    "judge.endpoint.request={password: 4711555}",
    f"judge.endpoint.base_url=https://user:{SECRET}@judge.example.org/v1",
    f"judge.endpoint.base_url=https://judge.example.org/v1?api_key={SECRET}",
    "judge.endpoint.base_url=https://judge.example.org/${oc.env:JUDGE_KEY}/v1",
    f"prompts.path=https://bucket.example.org/a.jsonl?X-Amz-Signature={SECRET}&x=1",
    f"prompts.path=https://blob.example.org/a.jsonl?sv=2&sig={SECRET}",
    f"run_dir=s3://key:{SECRET}@bucket/run",
    f"ray.runtime_env.pip=['--extra-index-url https://u:{SECRET}@pypi.example.org/simple']",
    f"ray.runtime_env.pip=['--extra-index-url https://{SECRET}@pypi.example.org/simple']",
    f"ray.runtime_env.env_vars={{HF_TOKEN: {SECRET}}}",
    f"judge.endpoint.request={{env: {{API_KEY: {SECRET}}}}}",
    f"ray.runtime_env.env_vars={{PIP_EXTRA_INDEX_URL: 'https://u:{SECRET}@pypi.example.org'}}",
    f"policy.engine.hf_overrides={{note: 'hf_{'a' * 24}'}}",
    f"policy.model=sk-proj-{SECRET}",
    "steps=['${oc.env:JUDGE_KEY}']",
    *(
        f"judge.endpoint.request.extra_headers={{{name}: {SECRET}}}"
        for name in ("Ocp-Apim-Subscription-Key", "X-Auth-Key", "X-Functions-Key", "X-Pw", "X-Pwd")
    ),
    f"judge.endpoint.request.extra_headers={{X-Auth: Token {SECRET}}}",
    *(
        f"judge.endpoint.request.extra_query={{{name}: {SECRET}}}"
        for name in ("key", "code", "sig", "signature", "pwd")
    ),
    f"judge.endpoint.base_url=https://judge.example.org/v1?pwd={SECRET}",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_refused_wherever_it_stands_and_not_repeated(place, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    config = load(EvaluateConfig, "conf/miniature/evaluate.yaml", [place])
    with pytest.raises(ConfigError, match="put secrets in environment variables") as caught:
        check_values(config)
    said = str(caught.value)
    assert said.startswith(place.partition("=")[0])
    assert SECRET not in said and "4711555" not in said


def test_words_say_where_else_a_secret_may_go():
    def said(name, value):
        with pytest.raises(ConfigError) as caught:
            check_secrets(value, name)
        return str(caught.value)

    assert said("judge.endpoint.request", {"api-key": "x"}) == (
        "judge.endpoint.request.api-key cannot be set: put secrets in environment variables: "
        "settings are written to files; judge.endpoint.api_key_variable names the variable that "
        "holds a key"
    )
    assert said("prompts.dpo.path", "https://b/a.jsonl?sig=x").startswith(
        "prompts.dpo.path holds an address with sig=...: put secrets in environment variables"
    )
    index = "--extra-index-url https://u:p@h/simple"
    assert "PIP_EXTRA_INDEX_URL" in said("ray.runtime_env", {"pip": [index]})


FINE = [
    {"pad_token": "<pad>", "eos_token": "x", "max_tokens": 7, "token": True, "num_keys": 3},
    {"extra_headers": {"X-Team": "judges", "X-Note": "Bearer of news"}},
    {"stop": ["secret", "Authorization: none"], "url": "https://example.org/v1?version=2&k=v"},
    {"path": "s3://bucket/a@b/c.jsonl", "other": "hf://owner/set", "git": "git+ssh://git@host/x"},
    {"env_vars": {"HF_HOME": "/mnt/models", "PWD": "/app"}},
    {"note": "Token counting", "extra_query": {"api-version": "2024-10-21", "keywords": "a"}},
    {"model": "org/sk-llama-3-8b-instruct-v2", "sort_key": "id"},
    {"note": "what the key is worth", "short": "none", "where": "/secrets/gcs/key.json"},
]


@pytest.mark.parametrize("settings", FINE)
def test_what_is_no_secret_may_be_set(settings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secrets/gcs/key.json")
    check_secrets(settings, "settings")


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "JUDGE_PW"])
def test_a_secret_may_begin_like_a_path(variable, monkeypatch):
    monkeypatch.setenv(variable, "/wJalrXUtnFEMI/K7MDENG+bPxRfi")
    with pytest.raises(ConfigError, match=f"the value of the environment variable {variable}"):
        check_secrets("s3://b/wJalrXUtnFEMI/K7MDENG+bPxRfi", "prompts.path")


def test_variables_that_hold_no_secret_may_be_used(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/shared/scratch")
    monkeypatch.setenv("PWD", "/shared/scratch")  # of a shell whose folder is gone
    config = load(Stage1Config, "conf/miniature/stage1.yaml", ["run_dir=${oc.env:SCRATCH}/run"])
    check_values(config)
    assert config.run_dir == "/shared/scratch/run"
