"""Conversations to token ids, in one place for generation, reward, training and checks."""

from typing import Any

from jinja2 import TemplateError

from avr.core.messages import Conversation, to_dicts
from avr.core.roles import TreeFault


class ChatError(RuntimeError):
    """A tokenizer or chat template that would feed a model something it was not trained on."""


def token_ids(tokenizer: Any, conversation: Conversation, *, to_continue: bool) -> list[int]:
    """Ids of a conversation, the template's BOS included, once.

    `to_continue` adds the generation prompt (the policy or corrector goes on); without it the
    conversation is whole (a reward model reads it). Raises ChatError on a doubled BOS or a missing
    template, TreeFault where the template refuses this conversation.
    """
    if tokenizer.chat_template is None:
        raise ChatError(f"{tokenizer.name_or_path} has no chat template")
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            to_dicts(conversation),
            tokenize=True,
            return_dict=False,
            add_generation_prompt=to_continue,
        )
    except TemplateError as error:  # "system role not supported", "roles must alternate"
        raise TreeFault(f"the chat template refuses the conversation: {error}") from error
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ChatError(f"{tokenizer.name_or_path}: its chat template gives two BOS tokens")
    return ids
