"""Another version than the pinned one is named before anything starts."""

import pytest

from avr.run import versions


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
