"""Which steps of a run are done, under which settings, and by whom; one job at a time."""

import pytest

from avr.config.run import Resume
from avr.run.ledger import Ledger, LedgerError
from avr.run.lock import lock_folder


def test_run_directory_is_held_by_one_job_at_a_time(tmp_path):
    def hold():
        with lock_folder(tmp_path, print):
            return True

    with lock_folder(tmp_path, print), pytest.raises(LedgerError, match="another job"):
        hold()
    assert hold()


def test_step_done_is_not_done_again(tmp_path):
    said, calls, connected = [], [], []

    def ledger():
        return Ledger(tmp_path / "ledger", said.append, lambda: connected.append(len(calls)))

    def work():
        calls.append(1)
        return {"n": 1}

    assert ledger().step("a", {"x": 1}, work) == ledger().step("a", {"x": 1}, work) == {"n": 1}
    assert len(calls) == 1
    assert connected == [0]  # before the work, and no second time: there was none
    assert "done before" in said[-1]


def test_a_step_is_not_begun_where_the_cluster_cannot_be_had(tmp_path):
    def refuse():
        raise RuntimeError("too small")

    with pytest.raises(RuntimeError, match="too small"):
        Ledger(tmp_path / "ledger", print, refuse).step("a", {}, dict)
    Ledger(tmp_path / "ledger", print).check_resume(Resume.never)


def test_step_that_failed_continues_and_one_under_other_settings_is_refused(tmp_path):
    said = []
    ledger = Ledger(tmp_path / "ledger", said.append)

    def fails():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        ledger.step("a", {"trl": {"lr": 1}}, fails)
    with pytest.raises(LedgerError, match=r"trl\.lr: 1 -> 2"):
        ledger.step("a", {"trl": {"lr": 2}}, dict)
    with pytest.raises(LedgerError, match="has no result of step a; run that step first"):
        ledger.result("a")
    assert ledger.step("a", {"trl": {"lr": 1}}, lambda: {"ok": True}) == {"ok": True}
    assert "a: continues" in said


def test_resume_says_whether_a_run_may_be_there(tmp_path):
    ledger = Ledger(tmp_path / "ledger", print)
    ledger.check_resume(Resume.never)
    ledger.check_resume(Resume.if_possible)
    with pytest.raises(LedgerError, match=r"resume is 'always', but .* no run to continue"):
        ledger.check_resume(Resume.always)
    ledger.step("a", {}, dict)
    ledger.check_resume(Resume.always)
    ledger.check_resume(Resume.if_possible)
    with pytest.raises(LedgerError, match=r"'never', but .* holds a run \(steps begun: a\)"):
        ledger.check_resume(Resume.never)


def test_a_step_is_taken_once_and_only_from_whom_it_was_taken(tmp_path):
    said, copied = [], []
    theirs, own = (Ledger(tmp_path / name / "ledger", said.append) for name in ("theirs", "own"))
    with pytest.raises(LedgerError, match="has no result of step sample"):
        own.take("sample", theirs, lambda: copied.append("sample"))
    theirs.step("sample", {"seed": 0}, lambda: {"num": 5})
    for _ in range(2):
        assert own.take("sample", theirs, lambda: copied.append("sample"))
    assert copied == ["sample"]
    assert own.step("sample", {"seed": 0}, dict) == {"num": 5}
    assert own.seconds() == {"sample": 0.0}
    with pytest.raises(LedgerError, match=r"was taken from .*theirs, made under other settings"):
        own.step("sample", {"seed": 1}, dict)
    other = Ledger(tmp_path / "other" / "ledger", said.append)
    assert not own.take("sample", other, lambda: copied.append("again"))
    other.step("sample", {"seed": 0}, dict)  # of its own: what follows is not theirs either
    assert not other.take("sample", theirs, lambda: copied.append("again"))
    assert copied == ["sample"]
