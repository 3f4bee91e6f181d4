"""A two-layer random Llama with a real tokenizer, and rows to train it on."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OURS = (
    "<|bos|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n'+ m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = {
    "ours": ("<|bos|>", "<|end|>", ["<|user|>", "<|assistant|>", "<|system|>"]),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    # Without <|endoftext|>, a Qwen2 tokenizer would add it, beyond the vocabulary.
    "chatml": (None, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
}
TEMPLATES = {"ours": OURS, "llama3": LLAMA3, "chatml": CHATML}
SENTENCE = "the cat sat on a mat and saw two red birds near old trees while rain fell"
WORDS = SENTENCE.split()


def tokenizer_of(style: str):
    """A byte-level BPE tokenizer; "llama3" adds a BOS to plain text, as Llama-3's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bos, end, others = SPECIAL[style]
    special = [t for t in (bos, end, *others) if t]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([SENTENCE] * 20, trainer)
    if style == "llama3":
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token=end, additional_special_tokens=others
    )
    tokenizer.chat_template = TEMPLATES[style]
    return tokenizer


def write_model(folder: Path, style: str = "ours") -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(style)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # heads of 32: the smallest that vLLM attends to on CPUs
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def text(seed: int, num_words: int = 6) -> str:
    return " ".join(WORDS[(seed * 7 + i * (1 + seed % 5)) % len(WORDS)] for i in range(num_words))


def turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def rsft_row(index: int, num_words: int = 6) -> dict:
    contents = [text(index * 10 + i, num_words) for i in range(6)]
    roles = ["user", "assistant"] * 3
    return {
        "id": f"r{index}",
        "messages": [turn(r, c) for r, c in zip(roles, contents, strict=True)],
        "node_ids": [f"n{index}"],
    }


def dpo_row(index: int) -> dict:
    return {
        "id": f"d{index}",
        "kind": "generation",
        "prompt": [turn("user", text(index))],
        "chosen": [turn("assistant", text(index + 1, 5))],
        "rejected": [turn("assistant", text(index + 2, 9))],
        "node_ids": [],
    }


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def write_rows(path: Path, rows: list[dict]) -> Path:
    types = {"id": pa.string(), "kind": pa.string(), "node_ids": pa.list_(pa.string())}
    schema = pa.schema([(name, types.get(name, MESSAGES)) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def on_cpus(trl: dict, num_workers: int = 2, **fields):
    """A TrainingConfig for CPUs with small batches and ZeRO-3."""
    from avr.config.training import TrainingConfig

    small = {
        "per_device_train_batch_size": 4,
        "logging_steps": 2,
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "max_length": 256,
        "learning_rate": 1e-3,
    }
    return TrainingConfig(num_workers=num_workers, use_gpu=False, trl=small | trl, **fields)


def load_json(path: Path) -> dict:
    return json.loads(path.read_text())
