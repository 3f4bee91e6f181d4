"""What is read of a model, here and from a hub, and what is said where nothing can be read."""

import json
import shutil
from pathlib import Path

import pytest
from fake_hub import forget, hub_of, point_at
from huggingface_hub import constants

from avr.engines.model_config import (
    HubUnreachableError,
    ModelConfigError,
    has_chat_template,
    read_config,
)
from avr.storage import location

POLICY = Path("avr/miniature/models/policy")


@pytest.fixture
def hub(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for file in ("config.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(POLICY / file, model)
    with hub_of({"us/policy": model}, tmp_path / "cache") as hub:
        yield hub


def wrong(call, *arguments):
    with pytest.raises(ModelConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_model_of_the_hub_reads_as_its_folder_does_and_is_asked_for_once(hub):
    expected = json.loads((POLICY / "config.json").read_text())
    assert read_config("us/policy") == read_config(str(POLICY)) == expected
    asked = len(hub.asked)
    assert read_config("us/policy") == expected
    assert len(hub.asked) == asked
    files = {path for path in hub.asked if "/resolve/" in path}
    assert files == {"/us/policy/resolve/main/config.json"}


def test_a_revision_is_what_the_hub_is_asked_for(hub):
    commit = hub.commit("us/policy")
    read_config(f"us/policy@{commit}")
    assert f"/us/policy/resolve/{commit}/config.json" in hub.asked
    words = str(wrong(read_config, "us/policy@v9"))
    assert words == "us/policy has no revision v9"


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_where_its_terms_are(hub, status):
    hub.gated["us/policy"] = status
    error = wrong(read_config, "us/policy")
    assert not isinstance(error, HubUnreachableError)
    assert str(error) == (
        f"us/policy is gated: accept its terms at {hub.url}/us/policy and set HF_TOKEN to a token"
        " of that account"
    )


def test_a_misspelt_name_is_no_model(hub):
    words = "there is no model us/polcy on the Hub, or it is private and HF_TOKEN gives no access"
    assert str(wrong(read_config, "us/polcy")) == words
    words = "us/po licy is neither a folder here nor a name of the Hub"
    assert str(wrong(read_config, "us/po licy")) == words


def test_a_refusal_is_told_from_a_hub_that_is_down(hub, monkeypatch):
    hub.broken["us/policy"] = 403
    error = wrong(read_config, "us/policy")
    assert str(error) == "the Hub refuses us/policy (HTTP 403): is HF_TOKEN right?"
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of the retries of the Hub's client
    hub.broken["us/policy"] = 503
    error = wrong(read_config, "us/policy")
    assert isinstance(error, HubUnreachableError)
    assert str(error).startswith("us/policy could not be looked at: the Hub does not answer: ")


def test_a_model_without_a_config_is_none(hub):
    (hub.models["us/policy"] / "config.json").unlink()
    words = "us/policy has no config.json: it is no model of Transformers"
    assert str(wrong(read_config, "us/policy")) == words


@pytest.mark.parametrize(("text", "words"), [("[]", "holds no JSON object"), ("{", "is not JSON")])
def test_a_config_that_cannot_be_read_names_the_file(hub, text, words):
    (hub.models["us/policy"] / "config.json").write_text(text)
    assert f"config.json {words}" in str(wrong(read_config, "us/policy"))
    assert f"config.json {words}" in str(wrong(read_config, str(hub.models["us/policy"])))


def test_offline_what_was_fetched_before_is_read_and_the_rest_could_not_be_looked_at(
    hub, monkeypatch
):
    expected = read_config("us/policy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget()
    asked = len(hub.asked)
    assert read_config("us/policy") == expected
    error = wrong(read_config, "us/other")
    assert isinstance(error, HubUnreachableError)
    assert str(error) == "us/other could not be looked at: HF_HUB_OFFLINE is set"
    assert len(hub.asked) == asked


def test_without_a_connection_nobody_could_look(hub, monkeypatch):
    point_at("http://127.0.0.1:9", monkeypatch)
    error = wrong(read_config, "us/policy")
    assert isinstance(error, HubUnreachableError)
    assert str(error).startswith(
        "us/policy could not be looked at: no connection to http://127.0.0.1:9: ConnectError"
    )


@pytest.mark.parametrize("on_hub", [False, True])
def test_a_chat_template_is_a_file_or_lies_in_the_tokenizer_s_settings(hub, on_hub):
    folder = hub.models["us/policy"]
    model = "us/policy" if on_hub else str(folder)
    assert has_chat_template(model)
    forget()
    (folder / "chat_template.jinja").unlink()
    assert not has_chat_template(model)
    forget()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert has_chat_template(model)


def test_a_model_of_an_object_store_is_read_there():
    store = location("memory://models/policy")
    for file in ("config.json", "tokenizer_config.json"):
        (store / file).write_bytes((POLICY / file).read_bytes())
    assert read_config("memory://models/policy") == read_config(str(POLICY))
    assert not has_chat_template("memory://models/policy")
    (store / "chat_template.jinja").write_bytes(b"{{ messages }}")
    assert has_chat_template("memory://models/policy")
    words = "memory://models/none has no config.json: it is no model of Transformers"
    assert str(wrong(read_config, "memory://models/none")) == words
