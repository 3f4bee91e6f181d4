"""Build the tokenizer: one token for each word of the world, bytes for all other text.

It is a byte-level BPE without merges whose vocabulary holds whole pre-tokens (`ignore_merges`, as
in Llama 3). A pre-token that is in the vocabulary is one token, any other falls apart into bytes,
so every text has an exact round trip. The template writes `<|bos|>` once and the tokenizer never
does, so that text rendered first and tokenised afterwards carries no second one.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from avr.miniature import world
from avr.miniature.vocabulary import CATEGORIES, COUNTS, FILLERS, OPENINGS

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant")
#: Markers of a thinking trajectory: whole tokens, but not special, so decoding keeps them.
MARKERS = ("<think>", "</think>")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

#: (a) | a1 | <think> | [[ and ]] | letters | digits | one other sign | white space
_PIECES = (
    r" ?\([a-z]\)| ?[a-z][0-9](?![0-9A-Za-z])|</?think>| ?\[\[|\]\]"
    r"| ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]|\n\n|\s"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer, always the same, ready for `save_pretrained`."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    specials = [PAD, BOS, END, *(f"<|{role}|>" for role in ROLES)]
    pieces = {piece for text in _texts() for piece, _ in splitter.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*specials, *alphabet, *sorted(pieces - set(alphabet))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    model.pre_tokenizer = splitter
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=specials[3:],
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _texts() -> list[str]:
    """List texts whose pre-tokens make up the vocabulary: each word with and without a space."""
    texts = [world.CHECK_REQUEST, world.REFINE_REQUEST, *FILLERS, *MARKERS, "\n\n", "Rating: [["]
    texts += [start + " and" for start, _ in OPENINGS]
    words = [*CATEGORIES, *COUNTS, *world.VERDICTS, *world.MISSING, "missing", "[[", "]]"]
    words += [name.capitalize() for name in CATEGORIES]
    words += [word for members in CATEGORIES.values() for word in members]
    words += [f"({letter})" for letter in world.LETTERS]
    words += [f"{letter}{n}" for letter in world.LETTERS for n in range(1, world.MAX_ITEMS + 1)]
    words += [str(rating) for rating in range(1, 11)]
    return [form for text in texts + words for form in (text, " " + text)]
