"""Bound rates from above, by a model's shape and a device's data sheet, for recipes in conf/.

    python benchmarks/roofline.py conf/llama3_8b/*.yaml --device h100
    python benchmarks/roofline.py RUN_DIR/config.yaml --run RUN_DIR   # which share did a run reach?
    python benchmarks/roofline.py conf/llama3_8b/stage1.yaml --role policy --tokens-per-second 9000

No device is asked: nothing here is a measurement. A decoding step reads all weights once and the
keys and values of every sequence; it cannot be quicker than that takes at full memory bandwidth,
nor than its arithmetic takes at the peak rate. Attention's own arithmetic, sampling, scheduling,
prefilling and the collectives of tensor parallelism are left out, so a real engine stays below.
Where bandwidth is the bound, the share of it that an engine reaches with `sequences` in hand is its
model bandwidth utilisation. `--run` has the tokens per second of one engine from a run
(`utilisation.py` says how), `--tokens-per-second` from you. Bounds go to results/roofline.json,
shares to the screen only.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from measure.measuring import write_report
from measure.utilisation import OneByOne, rates
from omegaconf import OmegaConf

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.memory.model import GIB
from avr.recipes.answer import AnswerConfig
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config


@dataclass(frozen=True)
class Device:
    """Hold memory in GiB, bandwidth in bytes/s, dense bf16 arithmetic in flop/s (data sheets)."""

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
    """Hold a decoder's shape, under the names of Hugging Face's config.json."""

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
        """Count the matrices of all layers; norms and biases are a millionth of them."""
        attention = self.num_attention_heads + self.num_key_value_heads
        projections = 2 * self.hidden_size * self.head_dim * attention
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (projections + feed_forward)

    @property
    def parameters(self):
        """Count those of the layers and the embeddings."""
        embeddings = self.vocab_size * self.hidden_size
        return self.layer_parameters + embeddings * (1 if self.tie_word_embeddings else 2)

    @property
    def read_parameters(self):
        """Count what a decoding step reads: of the input embeddings only a few rows."""
        return self.layer_parameters + self.vocab_size * self.hidden_size

    def kv_bytes_per_token(self):
        """Count the bytes of one token's keys and values in all layers, in 16 bits."""
        return 4 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


# Of the recipes in conf/ whose models are names on a hub. From their config.json.
SHAPES = {
    "meta-llama/Meta-Llama-3-8B-Instruct": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "Qwen/Qwen2.5-32B-Instruct": Shape(64, 5120, 27648, 40, 8, 128, 152064),
    "Skywork/Skywork-Reward-Gemma-2-27B": Shape(46, 4608, 36864, 32, 16, 128, 256000, True),
}


STAGES = (Stage1Config, Stage2Config, BaselineConfig, RftConfig)
SCHEMAS = (*STAGES, RefineConfig, EvaluateConfig, AnswerConfig)
NEVER_DECODES = ("devices", "weights_gib", "prefill_tokens_per_s")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+", help="and key=value, which go into each of them")
    parser.add_argument("--device", choices=sorted(DEVICES), default="h100")
    parser.add_argument("--context", type=int, default=1500, help="mean tokens of a sequence")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="that the recipe has given")
    parser.add_argument("--role", choices=("policy", "corrector"))
    parser.add_argument("--tokens-per-second", type=float, help="of one engine of --role")
    arguments = parser.parse_intermixed_args()
    if (arguments.role is None) != (arguments.tokens_per_second is None):
        parser.error("--role and --tokens-per-second belong together")
    files = [word for word in arguments.recipes if "=" not in word]
    overrides = [word for word in arguments.recipes if "=" in word]
    if (arguments.role or arguments.run) and len(files) != 1:
        parser.error("a share is one recipe's")
    device = DEVICES[arguments.device]
    found = {file: bounds(file, overrides, device, arguments.context) for file in files}
    for file, of_recipe in found.items():
        print(f"{file}:")
        for name, figures in of_recipe.items():
            print(f"  {name}: {figures}")
    if arguments.role:
        of_it = share(found[files[0]], arguments.role, arguments.tokens_per_second)
        print(f"{arguments.role}: {of_it}")
    elif arguments.run:
        show_run(found[files[0]], config_of(files[0], overrides), arguments.run)
    else:
        asked = {"device": arguments.device, "context": arguments.context, "overrides": overrides}
        write_report("roofline", asked, {"bounds_not_measurements": found})


def share(of_recipe, role, tokens_per_s):
    """Say in words which share of its role's bound an engine reaches."""
    if role not in of_recipe:
        raise SystemExit(f"this recipe has no {role}; it has {', '.join(of_recipe)}")
    bound = of_recipe[role]["decode_tokens_per_s"]
    return f"{tokens_per_s:.0f} tokens/s, {tokens_per_s / bound:.1%} of the bound"


def show_run(of_recipe, config, folder):
    """Show what one engine of each role has reached in each step of a run."""
    for one in rates(config, folder):
        if isinstance(one, OneByOne):
            print(f"{one.step}: its roles took turns (waves): no share of theirs is known")
            continue
        print(f"{one.step}, {one.role}: {one.tokens} tokens of {one.num_engines} engines; of one")
        print(f"  in all {one.seconds:.0f} s: {share(of_recipe, one.role, one.tokens_per_s)}")
        if one.at_work is not None:
            print(f"  while they worked: {share(of_recipe, one.role, one.at_work)}")


def config_of(file, overrides):
    """Load a recipe, of whichever job it is."""
    if not Path(file).is_file():
        raise SystemExit(f"no such recipe: {file}")
    problems = []
    for schema in SCHEMAS:
        try:
            return load(schema, file, overrides)
        except ConfigError as error:
            problems.append(f"as {schema.__name__}: {error}")
    raise SystemExit("\n".join(problems))


def roles_of(config):
    """List (name, settings, sampling) of each engine; a reward model has no sampling.

    `outputs` is Stage II's policy when it writes whole outputs.
    """
    yield "policy", config.policy, config.policy.sampling
    if isinstance(config, Stage1Config) and config.corrector is not None:
        yield "corrector", config.corrector, config.corrector.sampling
    if isinstance(config, Stage2Config | BaselineConfig | RftConfig):
        yield "outputs", config.policy, {**config.policy.sampling, **config.outputs.sampling}
    if isinstance(config, AnswerConfig):
        return
    judged = isinstance(config, EvaluateConfig)
    model = config.judge.reward_model if judged else getattr(config, "reward_model", None)
    members = config.reward.members if hasattr(config, "reward") else {}
    judges = {"reward_model": model} | {name: each.reward_model for name, each in members.items()}
    for name, role in judges.items():
        if role is not None:
            yield name, role, None


def bounds(file, overrides, device, context):
    """Bound every role and training of a recipe."""
    config = config_of(file, overrides)
    found = {}
    for role, settings, sampling in roles_of(config):
        shape = shape_of(settings.model, Path(file).parent)
        most = (sampling or {}).get("max_tokens", context)
        engine = engine_bounds(shape, device, settings.engine, context, most)
        found[role] = engine if sampling is not None else {k: engine[k] for k in NEVER_DECODES}
    if isinstance(config, STAGES):
        shape = shape_of(config.policy.model, Path(file).parent)
        trainings = [step for step in ("rsft", "dpo") if hasattr(config, step)]
        found |= {s: training_bounds(shape, device, getattr(config, s)) for s in trainings}
    return found


def engine_bounds(shape, device, engine, context, max_tokens):
    """Bound one engine: what fits, and the quickest that it can decode and prefill.

    `sequences_of_max_tokens` fit where each has got `max_tokens`, its prompt not counted.
    """
    devices = engine.get("tensor_parallel_size", 1)
    memory = devices * device.memory_gib * GIB * engine.get("gpu_memory_utilization", 0.9)
    weights = 2 * shape.parameters
    room = max(0.0, memory - weights)
    tokens = room / shape.kv_bytes_per_token()
    fitting = int(tokens / context)
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
        "sequences_of_max_tokens": int(tokens / max_tokens),
        "sequences": sequences,
        "step_ms": round(1000 * step, 2),
        "bound_by": "memory bandwidth" if reading >= arithmetic else "arithmetic",
        "decode_tokens_per_s": round(sequences / step),
        "prefill_tokens_per_s": round(device.flops * devices / (2 * shape.layer_parameters)),
    }


def training_bounds(shape, device, training):
    """Bound a training: tokens/s of all devices; memory of one, under ZeRO-3 and without.

    A token costs 6 flops a parameter, 8 where activations are computed again (checkpointing);
    what DPO's reference model costs comes on top.
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


def shape_of(model, recipes):
    """Find a shape: a folder's config.json, a known name, or the model it will be trained from.

    `recipes` is a folder: a model that one of them has yet to train has its policy's shape.
    """
    file = Path(model) / "config.json"
    if not file.exists():
        if model in SHAPES:
            return SHAPES[model]
        for other in map(OmegaConf.load, sorted(recipes.glob("*.yaml"))):
            trained = [f"{other.get('run_dir')}/{step}" for step in ("rsft", "dpo")]
            if model in trained:
                return shape_of(other.policy.model, recipes)
        raise SystemExit(
            f"no folder, no known shape and of no recipe in {recipes}: {model}; known: "
            f"{', '.join(SHAPES)} (ROLE.model=NAME takes another)"
        )
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
