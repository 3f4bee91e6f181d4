import pytest

from avr.engines.parity import PROBES, ParityError, check_parity
from avr.engines.weights import weights_id
from avr.evaluation.paired import difference, mean_of
from avr.run import versions


def test_interval_holds_the_mean_and_narrows_with_more_prompts():
    few, many = mean_of([0.0, 1.0] * 10), mean_of([0.0, 1.0] * 500)
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_paired_difference_sees_what_unpaired_means_would_not():
    theirs = [float(n) for n in range(100)]
    better = difference([x + 0.1 for x in theirs], theirs)
    assert better.low > 0
    assert better.mean == pytest.approx(0.1)


def test_pairs_of_unequal_length_and_empty_sets_are_errors():
    with pytest.raises(ValueError, match="longer"):
        difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no prompts"):
        mean_of([])


def test_version_guard_passes_here_and_names_what_differs(monkeypatch):
    versions.check_versions()
    real = versions.version
    monkeypatch.setattr(versions, "version", lambda n: "1.0" if n == "trl" else real(n))
    with pytest.raises(versions.VersionError, match=r"^trl is 1\.0, needs ==1\.16\.0\. `make"):
        versions.check_versions()


def test_version_guard_names_a_missing_engine(monkeypatch):
    real = versions.version

    def without_vllm(name):
        if name.startswith("vllm"):
            raise versions.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(versions, "version", without_vllm)
    with pytest.raises(versions.VersionError, match="vllm is missing"):
        versions.check_versions()


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
