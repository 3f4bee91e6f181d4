"""Check reward parity: vLLM's rewards must be Hugging Face's raw logits, or the run stops.

Reward models served with an activation, a wrong last token or a doubled BOS give plausible numbers
that rank wrongly, and nothing downstream notices. The reference is computed once for each model, in
a process of its own, so that its device memory is free again before the engine starts.
"""

import json
import subprocess
import sys

from avr.core.messages import Conversation, assistant, user
from avr.engines.weights import local_model, weights_id
from avr.storage import Location, write_text

PROBES: tuple[Conversation, ...] = (
    (user("Name a fruit."), assistant("An apple is a fruit.")),
    (user("Name a fruit."), assistant("no")),
    (user("How do I boil an egg?"), assistant("Put it into boiling water. Wait. " * 12)),
    (
        user("Hello"),
        assistant("Hello! What can I do for you?"),
        user("List (a) two tools and (b) three fruits."),
        assistant("Tools: a1 saw, a2 drill. Fruits: b1 apple, b2 plum, b3 pear."),
    ),
)


class ParityError(RuntimeError):
    """Signal that vLLM and Hugging Face disagree about the rewards of a model."""


def reference_rewards(
    model: str, cache: Location, dtype: str = "auto", trust_remote_code: bool = False
) -> list[float]:
    """Return Hugging Face's logits of `PROBES`; take them from the cache folder where it has them.

    Raises ParityError, with the process's last words, where they cannot be computed.
    """
    file = cache / f"{weights_id(model)}-{dtype}-eager.json"
    if not file.exists():
        command = [sys.executable, "-m", "avr.engines.reference", local_model(model), dtype]
        command += ["--trust-remote-code"] if trust_remote_code else []
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise ParityError(f"no reference rewards of {model}: {run.stderr.strip()[-2000:]}")
        write_text(file, run.stdout.strip().splitlines()[-1])
    rewards: list[float] = json.loads(file.read_text())
    return rewards


def check_parity(model: str, ours: list[float], reference: list[float], tolerance: float) -> None:
    """Raise ParityError unless every reward agrees within `tolerance` x max(1, |logit|)."""
    for probe, got, expected in zip(PROBES, ours, reference, strict=True):
        if not abs(got - expected) <= tolerance * max(1.0, abs(expected)):
            raise ParityError(
                f"reward parity failed for {model}: vLLM {got:.4f}, Hugging Face {expected:.4f}"
                f" for the answer {probe[-1].content[:40]!r}. Usual causes: an activation on the"
                " logit, a chat template that differs, a last token that differs."
            )
