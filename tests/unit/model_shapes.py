"""The config.json of the models in conf/llama3_8b, and of one that is too large for a GPU."""

import json
from pathlib import Path

MODELS = Path("tests/models")
LLAMA, QWEN = "meta-llama/Meta-Llama-3-8B-Instruct", "Qwen/Qwen2.5-32B-Instruct"
GEMMA = "Skywork/Skywork-Reward-Gemma-2-27B"
BY_NAME = {
    name: json.loads((MODELS / name / "config.json").read_text()) for name in (LLAMA, QWEN, GEMMA)
}
LLAMA_8B, QWEN_32B, GEMMA_27B = BY_NAME[LLAMA], BY_NAME[QWEN], BY_NAME[GEMMA]
BY_NAME["runs/llama3_8b/dpo"] = LLAMA_8B  # where Stage I leaves its model
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
}


def read(model):
    """Stands in for `avr.engines.model_config.read_config`."""
    return BY_NAME[model]
