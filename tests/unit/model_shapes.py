"""What config.json says of the models in conf/llama3_8b, as far as memory depends on it."""

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
}
QWEN_32B = {
    "model_type": "qwen2",
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
}
GEMMA_27B = {
    "model_type": "gemma2",
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "head_dim": 128,
    "num_attention_heads": 32,
    "num_hidden_layers": 46,
    "num_key_value_heads": 16,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "num_labels": 1,
}
BY_NAME = {
    "meta-llama/Meta-Llama-3-8B-Instruct": LLAMA_8B,
    "Qwen/Qwen2.5-32B-Instruct": QWEN_32B,
    "Skywork/Skywork-Reward-Gemma-2-27B": GEMMA_27B,
    "runs/llama3_8b/dpo": LLAMA_8B,  # where Stage I leaves its model
}


def read(model, revision=None):
    """Stands in for `avr.engines.model_config.read_config`."""
    return BY_NAME[model]
