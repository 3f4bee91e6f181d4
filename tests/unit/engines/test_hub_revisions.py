"""One place says a hub model's revision, its name; everything that loads it gets that one."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.engines.weights import hub_name, local_model, weights_id
from avr.training.job import fingerprint_of
from avr.training.methods.rsft import Rsft

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("model", "split"),
    [
        ("org/model", ("org/model", None)),
        (f"org/model@{FIRST}", ("org/model", FIRST)),
        ("org/model-1.5_b@v1.0", ("org/model-1.5_b", "v1.0")),
        ("org/model@refs/pr/1", ("org/model", "refs/pr/1")),
        ("gpt2@main", ("gpt2", "main")),
        ("runs/me@home/dpo", ("runs/me@home/dpo", None)),  # `runs` is a folder here
        ("./runs@1", ("./runs@1", None)),
        ("/data/a@b", ("/data/a@b", None)),
        ("s3://me@bucket/m", ("s3://me@bucket/m", None)),
    ],
)
def test_a_revision_is_what_follows_a_hub_name(model, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert hub_name(model) == split


def test_ids_of_a_hub_model_and_of_its_trainings_tell_revisions_apart(tmp_path):
    models = ["org/model", f"org/model@{FIRST}", f"org/model@{SECOND}"]
    assert len({weights_id(model) for model in models}) == 3
    rows = tmp_path / "rows.parquet"
    rows.write_bytes(b"rows")
    made = {fingerprint_of(Rsft(), TrainingConfig(), model, rows) for model in models}
    assert len(made) == 3


def test_a_pinned_hub_model_becomes_a_folder_of_that_revision(monkeypatch):
    asked = []

    def download(name, **wanted):
        asked.append((name, wanted["revision"]))
        assert "*.safetensors" in wanted["allow_patterns"]
        assert not any("bin" in pattern for pattern in wanted["allow_patterns"])
        return f"/cache/{wanted['revision']}"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert local_model(f"org/model@{FIRST}") == f"/cache/{FIRST}"
    assert asked == [("org/model", FIRST)]
    assert local_model("org/model") == "org/model"
    assert len(asked) == 1


def test_the_hubs_own_cache_gives_each_revision_its_files(tmp_path, monkeypatch):
    """huggingface_hub without a network, on a cache that holds two revisions and a tag."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--org--model"
    for revision in (FIRST, SECOND):
        folder = repository / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"of": revision}))
    (repository / "refs").mkdir()
    (repository / "refs" / "v2").write_text(SECOND)
    for revision, held in ((FIRST, FIRST), (SECOND, SECOND), ("v2", SECOND)):
        folder = Path(local_model(f"org/model@{revision}"))
        assert json.loads((folder / "config.json").read_text()) == {"of": held}


def test_a_revision_has_one_place():
    check_model("policy.model", f"org/model@{FIRST}")
    with pytest.raises(ConfigError, match=r"policy.model is 'org/model@': .* is NAME@REVISION"):
        check_model("policy.model", "org/model@")
    role = RoleConfig(model="org/model", sampling={"max_tokens": 8})
    check_role("policy", role)
    for setting in ("revision", "tokenizer_revision"):
        with pytest.raises(ConfigError) as caught:
            check_role("policy", replace(role, engine={setting: FIRST}))
        assert str(caught.value) == (
            f"policy.engine.{setting} cannot be set there: it is policy.model, as NAME@REVISION"
        )
