"""Turn conversations into token ids, in one place for generation, reward, training and checks."""

from typing import Any

from jinja2 import TemplateError

from avr.core.messages import Conversation, to_dicts
from avr.core.roles import TreeFault
from avr.engines.as_text import as_text_of


class ChatError(RuntimeError):
    """Signal a tokenizer or chat template that would feed a model text it was not trained on."""


def token_ids(tokenizer: Any, conversation: Conversation, *, to_continue: bool) -> list[int]:
    """Return the ids of a conversation; the template's BOS is among them, once.

    `to_continue` adds the generation prompt (the policy or corrector goes on); without it the
    conversation is whole (a reward model reads it). The name of a control token inside a content is
    text (see `as_text`). Raises ChatError on a doubled BOS or a missing template, TreeFault where
    the template refuses this conversation or the tokenizer cannot take such a name as text.
    """
    as_text = as_text_of(tokenizer)
    if as_text.is_needed(conversation):
        ids = as_text.ids(conversation, lambda c: rendered(tokenizer, c, to_continue=to_continue))
    else:
        ids = _applied(tokenizer, conversation, to_continue, tokenize=True, return_dict=False)
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ChatError(f"{tokenizer.name_or_path}: its chat template gives two BOS tokens")
    return ids


def rendered(tokenizer: Any, conversation: Conversation, *, to_continue: bool) -> str:
    """Return the text that `token_ids` tokenises, where no content names a control token."""
    return str(_applied(tokenizer, conversation, to_continue, tokenize=False))


def _applied(tokenizer: Any, conversation: Conversation, to_continue: bool, **how: bool) -> Any:
    if tokenizer.chat_template is None:
        raise ChatError(f"{tokenizer.name_or_path} has no chat template")
    try:
        return tokenizer.apply_chat_template(
            to_dicts(conversation), add_generation_prompt=to_continue, **how
        )
    except TemplateError as error:  # "system role not supported", "roles must alternate"
        raise TreeFault(f"the chat template refuses the conversation: {error}") from error
