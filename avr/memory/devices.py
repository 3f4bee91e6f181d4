"""Map the names that cluster files give to machines to the memory of their GPUs. Pure.

Memory is in GiB as the driver counts them, rounded down. Cards with GDDR6 (T4, A10G, L4, L40S) keep
a sixteenth of the memory in their data sheets for error correction.
"""

import re
from collections.abc import Iterator
from typing import Any

# EC2's instance types, Compute Engine's machine types, labels of GKE and of NVIDIA's operator, and
# Ray's accelerator types. A plain A100 may have 40 or 80.
_GPUS = {
    15.0: r"g4dn\..+|nvidia-tesla-t4|tesla-t4|T4",
    16.0: r"p3\..+|nvidia-tesla-v100|tesla-v100-\w+-16gb",
    22.5: r"g5\..+|g6\..+|g2-standard-.+|nvidia-(l4|a10g)|L4|A10G",
    32.0: r"p3dn\..+|tesla-v100-\w+-32gb",
    40.0: r"p4d\..+|a2-(high|mega)gpu-.+|nvidia-tesla-a100|nvidia-a100-(\w+-)?40gb|A100-40G",
    45.0: r"g6e\..+|nvidia-l40s|L40S",
    80.0: r"p4de\..+|p5\..+|a2-ultragpu-.+|a3-(high|mega|edge)gpu-.+|nvidia-a100-(\w+-)?80gb|"
    r"nvidia-h100(-\w+)?-80gb(-\w+)?|A100-80G|H100",
    139.0: r"p5en?\..+|a3-ultragpu-.+|nvidia-h200(-\w+)*|H200",
}
_NAMES = [(re.compile(names, re.IGNORECASE), gib) for gib, names in _GPUS.items()]


def gpu_gib(node: Any) -> float | None:
    """Return the memory of the GPU that a node's section of a cluster file names, in GiB.

    None where it names no GPU that is known here. `node` is whatever YAML makes of the section.
    Where it names several GPUs, the smallest counts.
    """
    found = [
        gib
        for text in _texts(node)
        for name, gib in _NAMES
        if name.fullmatch(text.removeprefix("accelerator_type:"))
    ]
    return min(found, default=None)


def _texts(section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(section, list):
        for value in section:
            yield from _texts(value)
    elif isinstance(section, str):
        yield section.rsplit("/", 1)[-1]  # Compute Engine writes types as addresses
