"""Load a checked configuration from a YAML file and `key=value` overrides.

`load(Stage1Config, "conf/miniature/stage1.yaml", ["tree.num_critiques=3"])` merges defaults, file
and overrides. A file may start from another: `extends: other.yaml`, relative to its own folder. An
unknown key or a wrong type is a ConfigError that names the file and suggests the key that was
meant.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avr.config.errors import ConfigError

C = TypeVar("C")
EXTENDS = "extends"
# Keys of older recipes that another job has now, or none: what to do instead.
MOVED = {
    "evaluation.seed": "it is 'seed_model', at the top",
    "simpo_margin": "it is 'simpo_margin' of jobs/baseline.py, which trains SimPO",
    "trajectories": "this job has no trajectories; leave it out where its template was 'plain'",
    "tree": "this job has no trees; 'max_tries' is its number of tries",
    "judgements": "a model that judges itself (Meta-Rewarding) is trained by jobs/baseline.py",
    "meta_request": "a model that judges itself (Meta-Rewarding) is trained by jobs/baseline.py",
}


def load(schema: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Merge the defaults, the files that the file extends, the file itself and the overrides.

    Later values win. Sections are merged key by key, lists are replaced. An override is
    `key=value`. Raises ConfigError.
    """
    files = _contents(schema, Path(path))
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r} is not of the form key=value")
    config = OmegaConf.structured(schema)
    for file, content in files:
        with _errors_of(str(file), schema):
            config.merge_with(content)
    for override in overrides:
        with _errors_of(f"override {override!r}", schema):
            config.merge_with(OmegaConf.from_dotlist([override]))
    return _built(schema, config, f"{path} with its overrides" if overrides else str(path))


def _contents(
    schema: type, path: Path, extended_by: tuple[Path, ...] = ()
) -> list[tuple[Path, Any]]:
    """List the contents of a file, after those of the files that it extends.

    The key `extends` is left out of them.
    """
    if not path.is_file():
        named = f"{extended_by[-1]}: {EXTENDS}: " if extended_by else ""
        raise ConfigError(f"{named}no such configuration file: {path}")
    if any(path.samefile(other) for other in extended_by):
        circle = " -> ".join(map(str, (*extended_by, path)))
        raise ConfigError(f"{extended_by[-1]}: {EXTENDS} goes in a circle: {circle}")
    with _errors_of(str(path), schema):
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(content, dict) or EXTENDS not in content:
        return [(path, content)]
    other = content.pop(EXTENDS)
    if not isinstance(other, str):
        raise ConfigError(f"{path}: {EXTENDS} is {other!r}, not the name of a file")
    return [*_contents(schema, path.parent / other, (*extended_by, path)), (path, content)]


@contextmanager
def _errors_of(origin: str, schema: type) -> Iterator[None]:
    """Turn every error in the block into a ConfigError that names its origin."""
    try:
        yield
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{origin}: {_explain(schema, error)}") from error
    except Exception as error:  # a YAML syntax error carries line and column in its text
        raise ConfigError(f"{origin}: {error}") from error


def _built(schema: type[C], config: Any, origin: str) -> C:
    # Interpolations may fail: the first call resolves some of them, the second the others.
    with _errors_of(origin, schema):
        missing = sorted(OmegaConf.missing_keys(config))
        built = None if missing else OmegaConf.to_object(config)
    if missing:
        raise ConfigError(f"{origin}: no value for {', '.join(missing)}")
    assert isinstance(built, schema)
    return built


def _explain(schema: type, error: Exception) -> str:
    """Explain an error in one line; for an unknown key, suggest the key that was probably meant."""
    full_key = getattr(error, "full_key", None) or ""
    first_line = str(error).splitlines()[0]
    unknown = re.search(r"Key '([^']+)' not in", first_line)
    if "is not a ListConfig" in first_line:
        return f"{full_key}: must be a list: {full_key}=[ONE,TWO]"
    if not unknown:
        where = f"{full_key}: " if full_key else ""
        return f"{where}{first_line}"
    parent = full_key.rpartition(".")[0]
    known = _keys_at(schema, parent)
    near = difflib.get_close_matches(unknown.group(1), known, n=1, cutoff=0.5)
    anywhere = [k for k in _all_keys(schema) if k.rpartition(".")[2] == unknown.group(1)]
    hint = MOVED.get(full_key, MOVED.get(unknown.group(1), ""))
    # The same name in just one other place is a better guess than a similar name here.
    if len(anywhere) == 1 and full_key not in MOVED:
        hint = f"did you mean {anywhere[0]!r}?"
    elif near and not hint:
        hint = f"did you mean {'.'.join(filter(None, [parent, near[0]]))!r}?"
    listed = f"there are: {', '.join(known)}" if known else first_line
    return f"unknown key {full_key!r}; {hint or listed}"


def _keys_at(schema: type, dotted: str) -> list[str]:
    for part in filter(None, dotted.split(".")):
        found = _section(get_type_hints(schema).get(part))
        if found is None:
            return []
        schema = found
    return [f.name for f in fields(schema)]


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, hint in get_type_hints(schema).items():
        keys.append(prefix + name)
        section = _section(hint)
        if section is not None:
            keys += _all_keys(section, f"{prefix}{name}.")
    return keys


def _section(hint: Any) -> type | None:
    """Find the dataclass behind a type hint, through `X | None`; None for a plain value."""
    options = [hint, *getattr(hint, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)
