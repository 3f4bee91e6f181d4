"""Read the rows of a prompt set from JSONL, JSON, Parquet or a Hugging Face data set."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.engines.model_config import HubUnreachableError, hub_out_of_reach, one_line
from avr.storage import Location, files_at, for_arrow, path_of


def rows_in(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    """Read (source, row) of every row in the window; a broken line comes as its ValueError."""
    stop = None if config.limit is None else config.skip + config.limit
    return islice(_all_rows(config), config.skip, stop)


def _all_rows(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    if not config.path:
        raise ConfigError("a prompt set has no path")
    if on_hub(config):
        yield from _hub_rows(config)
        return
    files = files_at(config.path)
    if not files:
        raise ConfigError(f"no prompts at {config.path}")
    check_suffixes(files)
    for file in files:
        yield from _READERS[file.suffix](file)


def check_suffixes(files: Iterable[Location]) -> None:
    """Raise ConfigError naming the first file that no rows can be read from."""
    for file in files:
        if file.suffix not in _READERS:
            raise ConfigError(f"{file}: prompts are read from {', '.join(_READERS)} and hf://")


def on_hub(config: PromptsConfig) -> bool:
    """Say whether the prompt set is a data set of the Hugging Face hub."""
    return (config.path or "").startswith("hf://")


def _hub_rows(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    """Read the rows of a hub data set.

    Raises HubUnreachableError where nobody could look, else ConfigError.
    """
    path = str(config.path)
    # Asked first, as the library would try for minutes.
    why = hub_out_of_reach()
    if why:
        raise HubUnreachableError(path, why)
    # Slow to import, and needed for this source alone.
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        name = path.removeprefix("hf://")
        rows = load_dataset(name, config.subset, split=config.split, streaming=True)
        for number, row in enumerate(rows):
            yield f"{path}:{config.split}:{number}", row
    except (DatasetsError, ValueError, RuntimeError) as error:  # no such set, subset or split
        raise ConfigError(f"{path}: {one_line(error)}") from error
    except Exception as error:  # HTTP clients have errors of their own
        raise HubUnreachableError(path, one_line(error)) from error


def _jsonl_rows(file: Location) -> Iterator[tuple[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield f"{file}:{number}", _parsed(text.strip())


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return ValueError(f"not UTF-8: {error.reason} at byte {error.start} of the line")
    except json.JSONDecodeError as error:
        return ValueError(f"not a JSON line: {error.msg} at character {error.pos} of the line")
    except RecursionError:
        return ValueError("not a JSON line: nested too deeply")
    # Python reads no number of more than 4,300 digits.
    except ValueError as error:
        return ValueError(f"not a JSON line: {str(error).partition(';')[0]}")


def _json_rows(file: Location) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    except RecursionError:
        raise ConfigError(f"{file}: not JSON: nested too deeply") from None
    if not isinstance(rows, list):
        raise ConfigError(f"{file}: a JSON file of prompts is a list of records")
    for number, row in enumerate(rows):
        yield f"{file}[{number}]", row


def _parquet_rows(file: Location) -> Iterator[tuple[str, Any]]:
    table = pq.ParquetFile(path_of(file), **for_arrow(file))
    batches = table.iter_batches(batch_size=512)
    for number, row in enumerate(row for batch in batches for row in _dicts(batch)):
        yield f"{file}:row {number}", row


def _dicts(batch: pa.RecordBatch) -> Iterator[Any]:
    """Read the rows of a batch; a row with bytes that are no text comes as its ValueError."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield ValueError(f"not UTF-8: {error.reason} at byte {error.start} of a field")


_READERS: dict[str, Callable[[Location], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}
