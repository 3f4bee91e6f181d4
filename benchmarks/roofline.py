"""Upper bounds from a model's shape and a device's data sheet, for the recipes in conf/.

    python benchmarks/roofline.py conf/llama3_8b/stage1.yaml --device h100
    python benchmarks/roofline.py conf/llama3_8b/stage1.yaml --device h100 --role policy \\
        --tokens-per-second 9000     # one engine's, as measured: which share of the bound is it?

No device is asked: nothing here is a measurement. A decoding step reads all weights once and the
keys and values of every sequence; it cannot be quicker than that takes at full memory bandwidth,
nor than its arithmetic takes at the peak rate. Attention's own arithmetic, sampling, scheduling and
the collectives of tensor parallelism are left out, so a real engine stays below. Writes
results/roofline.json.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from measuring import write_report

from avr.config import Stage1Config
from avr.loading import load

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """Memory in GiB, bandwidth in bytes/s, dense bf16 arithmetic in flop/s (data sheets)."""

    memory_gib: float
    bandwidth: float
    flops: float


DEVICES = {
    "a100": Device(80, 2.04e12, 312e12),
    "h100": Device(80, 3.35e12, 989e12),
    "h200": Device(141, 4.8e12, 989e12),
    "l40s": Device(48, 0.864e12, 362e12),
}


@dataclass(frozen=True)
class Shape:
    """A decoder's shape, under the names of Hugging Face's config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = False

    @property
    def layer_parameters(self):
        """Matrices of all layers; norms and biases are a millionth of them."""
        attention = self.num_attention_heads + self.num_key_value_heads
        projections = 2 * self.hidden_size * self.head_dim * attention
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (projections + feed_forward)

    @property
    def parameters(self):
        """Those of the layers and the embeddings."""
        embeddings = self.vocab_size * self.hidden_size
        return self.layer_parameters + embeddings * (1 if self.tie_word_embeddings else 2)

    @property
    def read_parameters(self):
        """What a decoding step reads: of the input embeddings only a few rows."""
        return self.layer_parameters + self.vocab_size * self.hidden_size

    def kv_bytes_per_token(self):
        """Keys and values of one token in all layers, in 16 bits."""
        return 4 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


# Of the recipes in conf/ whose models are names on a hub. From their config.json.
SHAPES = {
    "meta-llama/Meta-Llama-3-8B-Instruct": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "Qwen/Qwen2.5-32B-Instruct": Shape(64, 5120, 27648, 40, 8, 128, 152064),
    "Skywork/Skywork-Reward-Gemma-2-27B": Shape(46, 4608, 36864, 32, 16, 128, 256000, True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--device", choices=sorted(DEVICES), default="h100")
    parser.add_argument("--context", type=int, default=1500, help="mean tokens of a sequence")
    parser.add_argument("--role", choices=("policy", "corrector"))
    parser.add_argument("--tokens-per-second", type=float, help="of one engine of --role")
    arguments = parser.parse_intermixed_args()
    if (arguments.role is None) != (arguments.tokens_per_second is None):
        parser.error("--role and --tokens-per-second belong together")
    config = load(Stage1Config, arguments.config, arguments.overrides)
    device = DEVICES[arguments.device]
    roles = {}
    for role in ("policy", "corrector", "reward_model"):
        settings = getattr(config, role)
        if settings is not None:
            shape = shape_of(settings.model)
            roles[role] = engine_bounds(shape, device, settings.engine, arguments.context)
    roles["reward_model"] = {  # it never decodes
        key: roles["reward_model"][key]
        for key in ("devices", "weights_gib", "prefill_tokens_per_s")
    }
    for role, bounds in roles.items():
        print(f"{role}: {bounds}")
    training = {
        step: training_bounds(shape_of(config.policy.model), device, getattr(config, step))
        for step in ("rsft", "dpo")
    }
    for step, bounds in training.items():
        print(f"{step}: {bounds}")
    if arguments.role:
        share = arguments.tokens_per_second / roles[arguments.role]["decode_tokens_per_s"]
        rate = f"{arguments.tokens_per_second:.0f} tokens/s"
        print(f"{arguments.role}: {rate} are {share:.0%} of the bound")
    asked = dict(vars(arguments))
    write_report("roofline", asked, {"bounds_not_measurements": {**roles, **training}})


def engine_bounds(shape, device, engine, context):
    """Of one engine: what fits, and the quickest that it can decode and prefill."""
    devices = engine.get("tensor_parallel_size", 1)
    memory = devices * device.memory_gib * GIB * engine.get("gpu_memory_utilization", 0.9)
    weights = 2 * shape.parameters
    room = max(0.0, memory - weights)
    fitting = int(room / shape.kv_bytes_per_token() / context)
    sequences = max(1, min(fitting, engine.get("max_num_seqs", 256)))
    moved = 2 * shape.read_parameters + sequences * context * shape.kv_bytes_per_token()
    reading = moved / (device.bandwidth * devices)
    arithmetic = 2 * shape.read_parameters * sequences / (device.flops * devices)
    step = max(reading, arithmetic)
    return {
        "devices": devices,
        "weights_gib": round(weights / GIB, 1),
        "kv_kib_per_token": shape.kv_bytes_per_token() / 1024,
        "sequences_that_fit": fitting,
        "sequences": sequences,
        "step_ms": round(1000 * step, 2),
        "bound_by": "memory bandwidth" if reading >= arithmetic else "arithmetic",
        "decode_tokens_per_s": round(sequences / step),
        "prefill_tokens_per_s": round(device.flops * devices / (2 * shape.layer_parameters)),
    }


def training_bounds(shape, device, training):
    """Of a training job: tokens/s of all devices, and memory of one under ZeRO-3 and without.

    A token costs 6 flops a parameter, 8 where activations are computed again (checkpointing).
    Weights, gradients and Adam's state are 16 bytes a parameter in mixed precision; activations
    come on top.
    """
    again = bool(training.trl.get("gradient_checkpointing", True))
    flops = (8 if again else 6) * shape.read_parameters
    state = 16 * shape.parameters / GIB
    return {
        "devices": training.num_workers,
        "tokens_per_s": round(training.num_workers * device.flops / flops),
        "state_gib_per_device_zero3": round(state / training.num_workers, 1),
        "state_gib_per_device_data_parallel": round(state, 1),
        "fits_data_parallel": state < device.memory_gib,
    }


def shape_of(model):
    """From the folder's config.json, or of a model that is known by name."""
    file = Path(model) / "config.json"
    if not file.exists():
        if model in SHAPES:
            return SHAPES[model]
        raise SystemExit(f"no folder and no known shape: {model}; known: {', '.join(SHAPES)}")
    found = json.loads(file.read_text())
    heads = found["num_attention_heads"]
    return Shape(
        found["num_hidden_layers"],
        found["hidden_size"],
        found["intermediate_size"],
        heads,
        found.get("num_key_value_heads", heads),
        found.get("head_dim") or found["hidden_size"] // heads,
        found["vocab_size"],
        bool(found.get("tie_word_embeddings")),
    )


if __name__ == "__main__":
    sys.exit(main())
