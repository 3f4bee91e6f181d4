"""Encoding of rows with a toy tokenizer: one id per character, specials written as <x>."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.rows import (
    IGNORED,
    RowError,
    UnusableRow,
    check_prompt_parity,
    read_rows,
)
from avr.training.tokenised import RowCounts, write_share

SPECIALS = ["<bos>", "<end>", "<user>", "<assistant>"]


class ToyTokenizer:
    """Special tokens have ids 0-3, any other character its code point + 10."""

    name_or_path = "toy"
    chat_template = "in code"
    bos_token_id = 0
    eos_token_id = 1
    all_special_ids = (0, 1, 2, 3)
    all_special_tokens = SPECIALS

    def __init__(self, after_turn="", adds_bos=False, num_bos=1, forgets_thinking=False):
        self.after_turn, self.adds_bos = after_turn, adds_bos
        self.num_bos, self.forgets_thinking = num_bos, forgets_thinking

    def __call__(self, text, add_special_tokens=True):
        parts = re.split("(" + "|".join(SPECIALS) + ")", text)
        ids = [
            i
            for part in parts
            for i in ([SPECIALS.index(part)] if part in SPECIALS else [ord(c) + 10 for c in part])
        ]
        return {"input_ids": [0] * (add_special_tokens and self.adds_bos) + ids}

    def apply_chat_template(self, conversation, tokenize, add_generation_prompt, return_dict=True):
        text = "<bos>" * self.num_bos
        for turn, m in enumerate(conversation):
            content = m["content"]
            if self.forgets_thinking and turn < len(conversation) - 1:
                content = content.split("</think>")[-1]
            text += f"<{m['role']}>{content}<end>{self.after_turn}"
        text += "<assistant>" * add_generation_prompt
        return self(text, add_special_tokens=False)["input_ids"] if tokenize else text

    def decode(self, ids):
        return "".join(SPECIALS[i] if i < 4 else chr(i - 10) for i in ids)


def conversation(*contents):
    roles = ["user", "assistant"] * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


def rsft_row(*contents, row_id="r1"):
    return {"id": row_id, "messages": conversation(*contents)}


def dpo_row(chosen="good", rejected="bad", row_id="d1"):
    return {
        "id": row_id,
        "prompt": conversation("query"),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def learned(tokenizer, example):
    labels = example.columns["labels"]
    return tokenizer.decode([label for label in labels if label != IGNORED])


@pytest.mark.parametrize("after_turn", ["", "\n"])
def test_rsft_loss_is_on_every_assistant_turn_with_its_end_and_nothing_else(after_turn):
    tokenizer = ToyTokenizer(after_turn=after_turn)
    example = Rsft().encode(tokenizer, rsft_row("q", "y0", "criticise", "c", "refine", "y1"))
    assert learned(tokenizer, example) == "y0<end>c<end>y1<end>"
    assert example.num_loss_tokens == len("y0") + len("c") + len("y1") + 3
    ids, labels = example.columns["input_ids"], example.columns["labels"]
    assert len(ids) == len(labels) == example.length
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))


def test_rsft_sequence_ends_with_the_last_end_of_turn_token():
    example = Rsft().encode(ToyTokenizer(after_turn="\n"), rsft_row("q", "a"))
    assert ToyTokenizer().decode(example.columns["input_ids"]) == (
        "<bos><user>q<end>\n<assistant>a<end>"
    )


def test_template_that_rewrites_earlier_turns_is_an_error_naming_the_row():
    tokenizer = ToyTokenizer(forgets_thinking=True)
    row = rsft_row("q", "<think>hm</think>a", "more", "b", row_id="r7")
    with pytest.raises(RowError, match=r"row r7: messages\[1\].*renders this turn differently"):
        Rsft().encode(tokenizer, row)


def test_answer_that_is_no_continuation_of_its_prompt_is_an_error():
    class Merging(ToyTokenizer):
        def apply_chat_template(self, conversation, **options):
            ids = super().apply_chat_template(conversation, **options)
            return ids if options["add_generation_prompt"] else [*ids[:2], 99, *ids[3:]]

    with pytest.raises(RowError, match=r"row d1: chosen: .*not a prefix"):
        Dpo().encode(Merging(), dpo_row())


def test_an_empty_assistant_text_is_an_error():
    with pytest.raises(RowError, match=r"row r1: messages\[1\]: the text is empty") as caught:
        Rsft().encode(ToyTokenizer(), rsft_row("q", ""))
    assert not isinstance(caught.value, UnusableRow)


def test_a_template_that_ends_a_turn_twice_makes_its_row_unusable():
    with pytest.raises(UnusableRow, match=r"row r1: messages\[1\]: the text contains a special"):
        Rsft().encode(ToyTokenizer(after_turn="<end>"), rsft_row("q", "a"))


def test_conversation_that_ends_with_a_user_turn_is_an_error():
    with pytest.raises(RowError, match="row r1: messages must end with an assistant turn"):
        Rsft().encode(ToyTokenizer(), rsft_row("q", "a", "more"))


def test_doubled_bos_is_an_error():
    with pytest.raises(RowError, match=r"row r1: messages: .*two BOS"):
        Rsft().encode(ToyTokenizer(num_bos=2), rsft_row("q", "a"))


def test_missing_bos_is_an_error_where_the_tokenizer_adds_one():
    with pytest.raises(RowError, match="must begin with the BOS"):
        Rsft().encode(ToyTokenizer(num_bos=0, adds_bos=True), rsft_row("q", "a"))
    assert Rsft().encode(ToyTokenizer(num_bos=0), rsft_row("q", "a")).length == 6


def test_dpo_answers_end_once_and_the_prompt_is_what_generation_uses():
    tokenizer = ToyTokenizer(after_turn="\n")
    example = Dpo().encode(tokenizer, dpo_row())
    text = {name: tokenizer.decode(ids) for name, ids in example.columns.items()}
    assert text == {
        "prompt_ids": "<bos><user>query<end>\n<assistant>",
        "chosen_ids": "good<end>",
        "rejected_ids": "bad<end>",
    }
    assert example.length == len(example.columns["prompt_ids"]) + len("good") + 1


def test_dpo_row_with_equal_answers_is_an_error():
    with pytest.raises(RowError, match="row d1: chosen and rejected are the same"):
        Dpo().encode(ToyTokenizer(), dpo_row("same", "same"))


def test_prompt_parity_accepts_one_tokenisation_and_refuses_two():
    rows = [rsft_row("q", "a", "more", "b"), dpo_row()]
    check_prompt_parity(ToyTokenizer(), rows)

    class Disagreeing(ToyTokenizer):
        def __call__(self, text, add_special_tokens=True):
            return super().__call__(text.replace("more", "MORE"), add_special_tokens)

        def apply_chat_template(self, conversation, **options):
            if not options["tokenize"]:
                return super().apply_chat_template(conversation, **options)
            text = super().apply_chat_template(conversation, **(options | {"tokenize": False}))
            return ToyTokenizer()(text, add_special_tokens=False)["input_ids"]

    with pytest.raises(RowError, match=r"row r1: messages\[:3\]: template text"):
        check_prompt_parity(Disagreeing(), rows)
    with pytest.raises(RowError, match=r"row d1: prompt: .*two BOS"):
        check_prompt_parity(ToyTokenizer(num_bos=2), [dpo_row()])


def test_rows_whose_thinking_the_template_cuts_away_are_unusable():
    class Cutting(ToyTokenizer):
        def apply_chat_template(self, conversation, **options):
            cut = [m | {"content": m["content"].split("</think>")[-1]} for m in conversation]
            return super().apply_chat_template(cut, **options)

    thinking, plain = "<think>a</think>b", "b"
    assert Rsft().encode(Cutting(), rsft_row("q", plain)).length == 7
    assert Dpo().encode(Cutting(), dpo_row(plain, "c")).length == 11
    with pytest.raises(UnusableRow, match=r"row r1: messages\[1\]: .* cut thinking away"):
        Rsft().encode(Cutting(), rsft_row("q", thinking))
    with pytest.raises(UnusableRow, match=r"row d1: rejected: .* cut thinking away"):
        Dpo().encode(Cutting(), dpo_row("c", thinking))


@pytest.fixture
def rows_folder(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [rsft_row("q", "a" * (1 + i), row_id=f"r{i}") for i in range(10)]
    for part in range(2):
        table = pa.Table.from_pylist(rows[part * 5 : part * 5 + 5])
        pq.write_table(table, folder / f"part-{part}.parquet")
    return folder


def test_ranks_read_every_row_exactly_once(rows_folder):
    seen = [row["id"] for rank in range(3) for row in read_rows(Rsft.columns, rows_folder, rank, 3)]
    assert sorted(seen) == [f"r{i}" for i in range(10)]


def test_rows_of_another_schema_are_an_error_naming_file_and_columns(rows_folder):
    with pytest.raises(RowError, match=r"part-0\.parquet: rows to train on need .*missing: prompt"):
        next(read_rows(Dpo.columns, rows_folder))


def test_missing_rows_are_an_error_naming_the_path(tmp_path):
    with pytest.raises(RowError, match=r"no Parquet rows at .*nowhere"):
        next(read_rows(Rsft.columns, tmp_path / "nowhere"))


def test_rows_over_the_limit_are_left_out_and_counted_not_cut(rows_folder, tmp_path):
    # Around the answer: <bos><user>q<end><assistant> and <end> = 6 tokens.
    counts = write_share(Rsft(), ToyTokenizer(), rows_folder, tmp_path / "t", 10, 0, 1)
    assert (counts.num_rows, counts.num_trained, counts.num_too_long) == (10, 4, 6)
    assert counts.num_tokens == 7 + 8 + 9 + 10
    assert counts.num_loss_tokens == 2 + 3 + 4 + 5
    with pa.OSFile(str(tmp_path / "t" / "rank-0.arrow")) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert [len(ids) for ids in table["input_ids"].to_pylist()] == [7, 8, 9, 10]
    assert table.column_names == ["input_ids", "labels"]


def test_a_finished_share_is_not_encoded_again(rows_folder, tmp_path):
    first = write_share(Rsft(), ToyTokenizer(), rows_folder, tmp_path / "t", None, 0, 2)
    broken = ToyTokenizer(num_bos=2)
    assert write_share(Rsft(), broken, rows_folder, tmp_path / "t", None, 0, 2) == first
    with pytest.raises(RowError):
        write_share(Rsft(), broken, rows_folder, tmp_path / "t", None, 1, 2)


def test_a_bad_row_leaves_no_share_behind(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([rsft_row("q", "a"), rsft_row("q", "", row_id="r9")]), path)
    with pytest.raises(RowError, match="row r9"):
        write_share(Rsft(), ToyTokenizer(), path, tmp_path / "t", None, 0, 1)
    assert not list((tmp_path / "t").glob("rank-0.arrow"))
    assert not list((tmp_path / "t").glob("*.json"))


@pytest.mark.parametrize("where", ["query", "answer"])
def test_one_row_that_cannot_be_tokenised_is_left_out_and_counted(tmp_path, where, capsys):
    odd = rsft_row("a <bos> of html", "b") if where == "query" else rsft_row("q", "a<end>b")
    rows = [rsft_row("q", "a"), odd | {"id": "r7"}, rsft_row("q", "c")]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    counts = write_share(Rsft(), ToyTokenizer(), path, tmp_path / "t", None, 0, 1)
    assert (counts.num_rows, counts.num_trained, counts.num_unusable) == (3, 2, 1)
    assert counts.unusable.startswith("row r7: messages: a text names a control token")
    assert f"left out: {counts.unusable}" in capsys.readouterr().out
    assert counts.fault(None) == ""
    again = write_share(Rsft(), ToyTokenizer(), path, tmp_path / "t", None, 0, 1)
    assert again == counts  # as it was written down


def test_rows_that_are_mostly_unusable_or_too_long_are_no_rows_to_train_on():
    some = RowCounts(num_rows=4, num_trained=2, num_unusable=2, unusable="row r1: why")
    assert some.fault(9) == ""
    most = some + RowCounts(num_rows=1, num_unusable=1, unusable="row r2: why")
    assert most.fault(9) == "3 of 5 rows are unusable; the first: row r1: why"
    assert RowCounts(num_rows=2, num_too_long=2).fault(9) == "all 2 rows are over 9 tokens"
    both = RowCounts(num_rows=2, num_too_long=1, num_unusable=1, unusable="row r1: why")
    assert both.fault(9) == ("1 rows are unusable (row r1: why), the other 1 are over 9 tokens")


def test_counts_that_lose_a_row_are_refused():
    with pytest.raises(AssertionError):
        RowCounts(num_rows=3, num_trained=1, num_too_long=1).check()
    both = RowCounts(num_rows=1, num_trained=1) + RowCounts(num_rows=2, num_too_long=2)
    assert json.loads(json.dumps(both.num_rows)) == 3 and both.check().num_too_long == 2
