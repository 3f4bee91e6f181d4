"""Rewards are compared with Hugging Face's, and a model is known by its weights."""

import pytest

from avr.engines.parity import PROBES, ParityError, check_parity
from avr.engines.weights import weights_id


def test_parity_is_relative_for_large_logits_and_absolute_for_small_ones():
    reference = [20.0, -0.2, 0.0, 3.0]
    check_parity("m", [20.9, -0.24, 0.04, 3.1], reference, tolerance=0.05)
    for place, wrong in enumerate([21.1, -0.3, 0.06, 3.2]):
        ours = [*reference]
        ours[place] = wrong
        with pytest.raises(ParityError, match="reward parity failed"):
            check_parity("m", ours, reference, tolerance=0.05)
    assert len(reference) == len(PROBES)


def test_weights_id_follows_content_not_place(tmp_path):
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    ids = {name: weights_id(str(tmp_path / name)) for name in "abc"}
    assert ids["a"] == ids["b"] != ids["c"]
    assert weights_id("org/model") != weights_id("org/other")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        weights_id(str(tmp_path / "none"))
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors"):
        weights_id(str(tmp_path / "c"))
