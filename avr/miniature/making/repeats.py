"""Let a base see that a word is in a list twice, by a code of each word and two heads.

A model this small does not find out by itself, within minutes, which of its words it has written
before: the identity of a token gets lost among the sums of its layers. So the base is widened by
two regions of the residual stream, into which no layer writes but one new head:

  own     a code of the token's word, part of its embedding
  before  the code of the token before, copied there by a head of the first layer

A head of the second layer then looks for its own code among those in "before". It finds the token
behind the word's earlier place, or the start of the text where there is none. As its scores fall
with the distance, a place in the same list wins over one in an earlier turn. The use of this is
learned; the codes and the two heads' scores stay as they are (`protect`). All choices are ours.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from avr.miniature.making.demonstrations import corrector_demonstration
from avr.miniature.making.documents import encode
from avr.miniature.making.networks import look_back
from avr.miniature.prompts import draw_requests
from avr.miniature.vocabulary import CATEGORY_OF

#: Width of each of the two regions; the last place says "no word" in own and "start" in before.
_REGION = 16
#: The strength of a code, as a share of everything else at the second layer.
_SHARE = 0.5
#: Scores of the second head: for the same word at no distance, and for the start of the text.
_MATCH, _START = 20.0, 12.0
#: How far apart the codes are pushed, in steps of gradient descent.
_CODE_STEPS = 300
_NUM_SAMPLES = 40


def see_repeats(base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Return the base with one more head, wider by two regions; its texts are nearly the same."""
    texts = _sample_texts(tokenizer)
    spread = _spread(base, texts)
    width, heads = base.config.hidden_size, base.config.num_attention_heads
    size = base.config.head_dim
    new = _widened(base, width + 2 * _REGION, heads + 1)
    code = spread["model.layers.1.input_layernorm"].mean() * _SHARE
    first = slice(heads * size, (heads + 1) * size)
    with torch.no_grad():
        _write_codes(new, tokenizer, width, code)
        for name, module in _norms(new):
            regions = 1 if name == "model.layers.0.input_layernorm" else 2
            there = spread[name].square() * width + code**2 * (_REGION - 1) * regions
            module.weight[:width] *= ((there / new.config.hidden_size).sqrt() / spread[name]).mean()
            module.weight[width:] = 0.0 if name == "model.norm" else 1.0
        _copy_codes(new, heads, width, first, code)
        _look_for_codes(new, width, first, _strengths(new, tokenizer, texts, width))
    return new


def protect(model: PreTrainedModel) -> None:
    """Keep gradients from the codes, from all writers into their regions and from the two heads."""
    body, config = model.model, model.config
    size, width = config.head_dim, config.hidden_size - 2 * _REGION
    head, regions, every = slice(-size, None), slice(width, None), slice(None)
    _freeze(body.embed_tokens.weight, (every, regions))
    for layer in body.layers[:2]:
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            _freeze(part.weight, (head,))
            _freeze(part.bias, (head,))
        _freeze(layer.input_layernorm.weight, (regions,))
    attention = body.layers[0].self_attn
    _freeze(attention.v_proj.weight, (head,))
    _freeze(attention.v_proj.bias, (head,))
    _freeze(attention.o_proj.weight, (every, head), (regions,))
    _freeze(body.layers[0].mlp.down_proj.weight, (regions,))


def _freeze(parameter: torch.nn.Parameter, *places: tuple[slice, ...]) -> None:
    learned = torch.ones_like(parameter)
    for place in places:
        learned[place] = 0.0
    parameter.register_hook(lambda gradient: gradient * learned)


def _widened(base: LlamaForCausalLM, width: int, heads: int) -> LlamaForCausalLM:
    """Return the base with new places that hold zeros, and new heads that nothing reads yet."""
    known = base.config.to_dict()
    known.pop("architectures", None)
    known.update(hidden_size=width, num_attention_heads=heads, num_key_value_heads=heads)
    new = LlamaForCausalLM(LlamaConfig(**known))
    new.set_attn_implementation("eager")
    old = base.state_dict()
    with torch.no_grad():
        for name, tensor in new.state_dict().items():
            tensor.zero_()
            tensor[tuple(slice(length) for length in old[name].shape)] = old[name]
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                added = tensor[len(old[name]) :, : base.config.hidden_size]
                added += torch.randn_like(added) * base.config.initializer_range
    return new


def _write_codes(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, width: int, code: torch.Tensor
) -> None:
    """Write the codes into the embeddings.

    Every token's regions have the same length, so that norms treat all tokens alike.
    """
    rows = model.model.embed_tokens.weight
    length = code * (_REGION - 1) ** 0.5
    rows[:, width + _REGION - 1] = length
    words = _word_tokens(tokenizer)
    names = sorted(set(words.values()))
    directions = dict(zip(names, _directions(len(names), _REGION - 1), strict=True))
    for token, word in words.items():
        rows[token, width : width + _REGION] = 0.0
        rows[token, width : width + _REGION - 1] = directions[word] * length
    rows[tokenizer.bos_token_id, width:] = 0.0
    rows[tokenizer.bos_token_id, width + 2 * _REGION - 1] = length


@torch.enable_grad()
def _directions(number: int, dimensions: int) -> torch.Tensor:
    """Return unit vectors [number, dimensions], pushed apart from one another."""
    vectors = torch.randn(number, dimensions, requires_grad=True)
    optimiser = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(_CODE_STEPS):
        unit = torch.nn.functional.normalize(vectors)
        likeness = unit @ unit.T - 2 * torch.eye(number)
        torch.logsumexp(12 * likeness.flatten(), 0).backward()
        optimiser.step()
        optimiser.zero_grad()
    return torch.nn.functional.normalize(vectors).detach()


def _copy_codes(
    model: LlamaForCausalLM, head: int, width: int, rows: slice, code: torch.Tensor
) -> None:
    """Make the first layer's new head write the code of the token before into the second region."""
    attention = model.model.layers[0].self_attn
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.weight[rows] = 0.0
    look_back(model, head, 1)
    # "no word" is not copied: it is no word to be found.
    words = _REGION - 1
    identity = torch.eye(words)
    attention.v_proj.weight[rows.start : rows.start + words, width : width + words] = identity
    # The norm before this layer has scaled the code to `normed` per place: back to `code`.
    normed = (model.config.hidden_size / words) ** 0.5
    before = slice(width + _REGION, width + _REGION + words)
    attention.o_proj.weight[before, rows.start : rows.start + words] = identity * code / normed


def _look_for_codes(
    model: LlamaForCausalLM, width: int, rows: slice, strengths: tuple[float, float, float]
) -> None:
    """Make the second layer's new head compare its own code with those of tokens before.

    Its own code is the query, and the code of the token before each place is the key.
    """
    attention = model.model.layers[1].self_attn
    own, before, start = strengths
    size = model.config.head_dim
    half, words = size // 2, _REGION - 1
    # Middling rotations are slow enough to know a word ten tokens on, and fast enough to favour
    # near places.
    middling = [place for place in range(size) if half // 4 <= place % half < half - half // 4]
    scale = (_MATCH * size**0.5 / (words * own * before)) ** 0.5
    for part, region in ((attention.q_proj, width), (attention.k_proj, width + _REGION)):
        part.weight[rows] = 0.0
        part.bias[rows] = 0.0
        for code, place in enumerate(middling[:words]):
            part.weight[rows.start + place, region + code] = scale
    slowest = rows.start + half - 1
    attention.k_proj.weight[slowest, width + 2 * _REGION - 1] = 1 / start
    attention.q_proj.bias[slowest] = _START * size**0.5


def _strengths(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[torch.Tensor],
    width: int,
) -> tuple[float, float, float]:
    """Return root mean squares of a word's own code and of the one before, and the start's mark."""
    words = torch.tensor(sorted(_word_tokens(tokenizer)))
    own, before, start = [], [], []
    for text, (entered,) in _inputs(model, texts, ["model.layers.1.self_attn.q_proj"]):
        places = torch.isin(text[:-1], words).nonzero()[:, 0]
        own.append(entered[places, width : width + _REGION - 1])
        before.append(entered[places + 1, width + _REGION : width + 2 * _REGION - 1])
        start.append(entered[0, -1])
    sizes = [torch.cat(part).square().mean(1).sqrt().mean().item() for part in (own, before)]
    return sizes[0], sizes[1], torch.stack(start).mean().item()


def _spread(model: LlamaForCausalLM, texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return by norm the root mean square of its input, for each token but the first of a text."""
    names = [name for name, _ in _norms(model)]
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    for _, entered in _inputs(model, texts, names):
        for name, tensor in zip(names, entered, strict=True):
            found[name].append(tensor[1:].square().mean(-1).sqrt())
    return {name: torch.cat(parts) for name, parts in found.items()}


def _inputs(
    model: LlamaForCausalLM, texts: list[torch.Tensor], names: list[str]
) -> Iterable[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Return for each text the inputs of the named modules, each [tokens, width]."""
    modules = dict(model.named_modules())
    entered: dict[str, torch.Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        return modules[name].register_forward_pre_hook(
            lambda _, given: entered.__setitem__(name, given[0][0])
        )

    handles = [keep(name) for name in names]
    try:
        for text in texts:
            with torch.no_grad():
                model.model(input_ids=text[None], use_cache=False)
            yield text, [entered[name] for name in names]
    finally:
        for handle in handles:
            handle.remove()


def _norms(model: LlamaForCausalLM) -> list[tuple[str, torch.nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if name.endswith("norm")]


def _word_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Map token ids to words, for every form of the words of a category."""
    texts = {token: tokenizer.decode([token]).strip().lower() for token in range(len(tokenizer))}
    return {token: text for token, text in texts.items() if text in CATEGORY_OF}


def _sample_texts(tokenizer: PreTrainedTokenizerBase) -> list[torch.Tensor]:
    rng = random.Random(0)
    requests = draw_requests("train", rng)
    talks = [corrector_demonstration(next(requests), rng) for _ in range(_NUM_SAMPLES)]
    return [torch.tensor(ids) for ids, _ in encode(tokenizer, talks)]
