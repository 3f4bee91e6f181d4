"""Compute Hugging Face's rewards of the parity probes; print one JSON line (see `parity`)."""

import argparse
import gc
import json
import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from avr.engines.chat import token_ids
from avr.engines.parity import PROBES


def main() -> None:
    """Load the model on the devices there are, score each probe alone, print the logits."""
    # The process takes seconds, of which looking for garbage would be a third.
    gc.disable()
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("dtype")
    parser.add_argument("--trust-remote-code", action="store_true")
    arguments = parser.parse_args()
    trust = {"trust_remote_code": arguments.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, **trust)
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.model,
        dtype=arguments.dtype,
        # Eager attention computes all that a model's configuration may ask for. The default, sdpa,
        # drops the caps of Gemma-2's scores without a word.
        attn_implementation="eager",
        device_map="auto" if torch.cuda.is_available() else None,
        num_labels=1,
        use_safetensors=True,
        **trust,
    ).eval()
    rewards = []
    with torch.inference_mode():
        for probe in PROBES:
            ids = torch.tensor([token_ids(tokenizer, probe, to_continue=False)])
            rewards.append(model(ids.to(model.device)).logits.float().item())
    print(json.dumps(rewards))


if __name__ == "__main__":
    main()
    # Python looks for garbage once more at its end.
    gc.freeze()
