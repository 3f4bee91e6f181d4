"""Time training steps of an 8B-class model on one GPU: attention, batches, share of the peak.

    python benchmarks/gpu_training.py --layers 32 --repeat 4

One device's part of RSFT and DPO steps under data parallelism: forward and backward of the whole
model in bf16, weights drawn at random, and no collectives. Rows have the lengths that `LENGTHS`
lists. The optimizer is timed by itself, fused AdamW on an eighth of the parameters in fp32, which
is what one of eight devices has under ZeRO-3. Peaks are measured beside, not taken from a data
sheet. Needs PyTorch and Transformers, nothing else. Writes results/gpu_training.json.
"""

import argparse
import gc
import statistics
import sys
import time

import torch
from measure.measuring import write_report
from transformers import LlamaConfig, LlamaForCausalLM

# Tokens of eight rows: a prompt, and an answer or a critique of a few hundred words.
LENGTHS = (1010, 450, 730, 610, 1370, 520, 880, 660)
PAIRS = (((420, 530), (420, 610)), ((150, 480), (150, 390)), ((310, 700), (310, 820)))
VOCABULARY = 128256
BETA = 0.1
IGNORED = -100


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32, help="of LLaMA-3-8B's 32")
    parser.add_argument("--repeat", type=int, default=4, help="steps that are timed, after two")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="does it run? small layers, no figures")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no arm after so many")
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    if arguments.tiny:
        _make_tiny()
    peaks = _peaks(device, 256 if arguments.tiny else 8192)
    print(f"measured: {peaks}", flush=True)
    arms = {}
    for name, step, attention, checkpointing in ARMS:
        if device.type == "cpu" and attention == "flex_attention":
            continue  # it has no backward there
        if time.monotonic() - began > arguments.seconds:
            print(f"left out: {name}")
            continue
        try:
            arms[name] = _measure(arguments, device, peaks, step, attention, checkpointing)
        except torch.OutOfMemoryError as error:
            arms[name] = {"out_of_memory": str(error).splitlines()[0]}
        print(f"{name}: {arms[name]}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    optimizer = _optimizer(arguments, device)
    print(f"optimizer: {optimizer}", flush=True)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    figures = {"device": where, "peaks": peaks, "arms": arms, "optimizer": optimizer}
    write_report("gpu_training", vars(arguments), figures)


def _make_tiny():
    global LENGTHS, PAIRS, VOCABULARY
    VOCABULARY = 512
    LENGTHS = tuple(length // 16 for length in LENGTHS)
    PAIRS = tuple(tuple((p // 16, a // 16) for p, a in pair) for pair in PAIRS)


def _model(arguments, attention, checkpointing, device):
    size = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    if not arguments.tiny:
        size = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
    config = LlamaConfig(
        **size,
        num_key_value_heads=size["num_attention_heads"] // 4,
        num_hidden_layers=arguments.layers,
        vocab_size=VOCABULARY,
        max_position_embeddings=8192,
        attn_implementation=attention,
        use_cache=False,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _measure(arguments, device, peaks, step, attention, checkpointing):
    model = _model(arguments, attention, checkpointing, device)
    parameters = (
        sum(p.numel() for p in model.parameters()) - model.model.embed_tokens.weight.numel()
    )
    seconds = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2 + arguments.repeat):
        model.zero_grad(set_to_none=True)
        _wait(device)
        started = time.perf_counter()
        tokens = step(model, device)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    timed = seconds[2:]
    rate = tokens / statistics.median(timed)
    # The arithmetic of the weights alone, forward and backward: 6 a parameter and token. What
    # checkpointing does again and what padding wastes is not counted as done.
    return {
        "seconds": round(statistics.median(timed), 4),
        "range": [round(min(timed), 4), round(max(timed), 4)],
        "tokens": tokens,
        "tokens_per_s": round(rate),
        "share_of_peak": round(6 * parameters * rate / (1e12 * peaks["bf16_tflops"]), 3),
        "memory_gib": _most_memory(device),
    }


def _padded(rows, device):
    """Put rows of tokens side by side, padded on the right to the longest."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return ids.to(device), mask.to(device)


def _rows(lengths):
    return [torch.randint(3, VOCABULARY, (length,)) for length in lengths]


def rsft_padded(model, device):
    """Run four micro-batches of two rows; returns the tokens of the rows."""
    for first in range(0, len(LENGTHS), 2):
        ids, mask = _padded(_rows(LENGTHS[first : first + 2]), device)
        labels = ids.masked_fill(mask == 0, IGNORED)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    return sum(LENGTHS)


def rsft_packed(model, device):
    """Run two sequences of four rows each, end to end, none of which sees another."""
    for first in range(0, len(LENGTHS), 4):
        rows = _rows(LENGTHS[first : first + 4])
        ids = torch.cat(rows)[None].to(device)
        places = torch.cat([torch.arange(len(row)) for row in rows])[None].to(device)
        labels = ids.masked_fill(places == 0, IGNORED)
        model(input_ids=ids, position_ids=places, labels=labels).loss.backward()
    return sum(LENGTHS)


def _answers_log_probs(model, pair, device):
    """Sum the log-probabilities of each of two answers to one prompt."""
    rows = _rows([prompt + answer for prompt, answer in pair])
    ids, mask = _padded(rows, device)
    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
    sums = []
    for at, (prompt, answer) in enumerate(pair):
        inside = slice(prompt - 1, prompt + answer - 1)
        logits = model.lm_head(hidden[at, inside]).float()
        wanted = ids[at, prompt : prompt + answer]
        sums.append(-torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return sums


def dpo(model, device):
    """Run three pairs, one at a time; the reference's part is known, as from a cache."""
    for pair in PAIRS:
        chosen, rejected = _answers_log_probs(model, pair, device)
        (-torch.nn.functional.logsigmoid(BETA * (chosen - rejected))).backward()
    return sum(prompt + answer for pair in PAIRS for prompt, answer in pair)


def dpo_with_reference(model, device):
    """Run `dpo`, and ask a reference of the same size as well (here: the model itself)."""
    for pair in PAIRS:
        with torch.no_grad():
            before = _answers_log_probs(model, pair, device)
        chosen, rejected = _answers_log_probs(model, pair, device)
        margin = (chosen - before[0]) - (rejected - before[1])
        (-torch.nn.functional.logsigmoid(BETA * margin)).backward()
    return sum(prompt + answer for pair in PAIRS for prompt, answer in pair)


# name, step, attention, gradient checkpointing; the most telling first.
ARMS = (
    ("rsft, padded, sdpa", rsft_padded, "sdpa", True),
    ("rsft, padded, sdpa, no checkpointing", rsft_padded, "sdpa", False),
    ("dpo, sdpa", dpo, "sdpa", True),
    ("dpo, sdpa, reference asked", dpo_with_reference, "sdpa", True),
    ("rsft, packed, sdpa", rsft_packed, "sdpa", True),
    ("rsft, padded, eager", rsft_padded, "eager", True),
    ("dpo, sdpa, no checkpointing", dpo, "sdpa", False),
    ("rsft, packed, flex", rsft_packed, "flex_attention", True),
    ("rsft, padded, flex", rsft_padded, "flex_attention", True),
)


def _optimizer(arguments, device):
    """Time fused AdamW on an eighth of the parameters."""
    model = _model(arguments, "sdpa", False, torch.device("meta"))
    number = sum(p.numel() for p in model.parameters()) // 8
    parameter = torch.nn.Parameter(torch.zeros(number, device=device))
    parameter.grad = torch.ones_like(parameter)
    adam = torch.optim.AdamW([parameter], fused=device.type == "cuda")
    return {"parameters": number, "seconds": round(_median(adam.step, device, 4, 2), 4)}


def _peaks(device, size):
    """Measure the peaks: a large product of matrices, and a copy that reads and writes."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(size * size // 2, device=device)
    target = torch.empty_like(source)
    product = _median(lambda: a @ b, device)
    copy = _median(lambda: target.copy_(source), device)
    moved = 2 * source.numel() * source.element_size()
    return {
        "bf16_tflops": round(2 * size**3 / product / 1e12, 4),
        "copy_tb_per_s": round(moved / copy / 1e12, 2),
    }


def _median(call, device, times=10, skipped=3):
    seconds = []
    for _ in range(skipped + times):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[skipped:])


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def _most_memory(device):
    return round(torch.cuda.max_memory_allocated() / 2**30, 1) if device.type == "cuda" else None


if __name__ == "__main__":
    sys.exit(main())
