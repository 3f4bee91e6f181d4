"""Run directories on a real S3 server: what is killed continues, one job at a time, nothing torn.

Engines are scripted here; `test_stage1.py` has the whole of Stage I with real ones.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import scripted_growth
import scripted_search

from avr.config.errors import ConfigError
from avr.data.schemas import RSFT_ROWS
from avr.data.tables import drop_doubles, read_ids, read_rows, write_part
from avr.run import lock
from avr.run.ledger import LedgerError
from avr.run.lock import lock_folder
from avr.serving.journal import Writer, journalled
from avr.storage import check_writable, copy, fetched, location, read_bytes, write_text, written

pytestmark = pytest.mark.integration
SCRIPTS = Path(__file__).parents[1]


@pytest.fixture
def bucket(store, request):
    return location(f"{store}/{request.node.name}")


def start(script, folder, log, *arguments):
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), str(folder), *arguments],
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS.parents[1]}:{SCRIPTS}"},
        stdout=log.open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_when(happened, job, log):
    deadline = time.monotonic() + 240
    while not happened():
        assert job.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def test_a_folder_is_copied_beside_itself(bucket, tmp_path):
    for folder in (bucket, tmp_path):
        write_text(folder / "here/a.txt", "one")
        write_text(folder / "here/deep/b.txt", "two")
        copy(folder / "here", folder / "there")
        assert (folder / "there/deep/b.txt").read_text() == "two"
        assert (folder / "here/a.txt").read_text() == (folder / "there/a.txt").read_text() == "one"


@pytest.mark.long
def test_growth_that_was_killed_continues_to_the_same_trees(bucket, tmp_path):
    log, arguments = tmp_path / "log", ("60", "0.4", "0")
    job = start("scripted_growth.py", bucket, log, *arguments)
    kill_when(lambda: list((bucket / "trees").glob("*.parquet")), job, log)
    committed = read_ids(bucket / "trees")
    assert 0 < len(committed) < 60
    job = start("scripted_growth.py", bucket, log, *arguments)
    assert job.wait(300) == 0, log.read_text()[-3000:]
    resumed = int(log.read_text().split("resumed ")[1].split("/60")[0])
    assert len(committed) <= resumed < 60
    assert scripted_growth.grown_in(bucket) == scripted_growth.undisturbed(60)
    logs = {file.name.partition("-")[0] for file in (bucket / "logs").glob("*.log")}
    assert logs == {"respond", "correct", "score"}


@pytest.mark.long
def test_search_that_was_killed_continues_to_the_same_trees(bucket, tmp_path):
    log = tmp_path / "log"
    job = start("scripted_search.py", bucket, log, "60")
    kill_when(lambda: len(list(journalled(bucket / "journal"))) > 3, job, log)
    committed = {row["id"] for row in journalled(bucket / "journal")}
    assert 0 < len(committed) < 60
    job = start("scripted_search.py", bucket, log, "60")
    assert job.wait(300) == 0, log.read_text()[-3000:]
    assert "resumed" in log.read_text()
    found = scripted_search.plain(scripted_search.trees_of(bucket))
    assert found == scripted_search.plain(scripted_search.undisturbed(60))
    assert not (bucket / "journal").exists()


def row(name):
    return {"id": name, "messages": [], "node_ids": [], "gain": 1.0}


def test_what_was_not_written_to_its_end_is_not_there(bucket):
    with pytest.raises(KeyError), written(bucket / "whole") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert not (bucket / "whole").exists()


def test_parts_replace_each_other_and_doubles_go(bucket):
    assert read_ids(bucket) == set() and list(read_rows(bucket)) == []
    write_part(bucket, "a", [row("1"), row("2")], RSFT_ROWS)
    write_part(bucket, "a", [row("1"), row("2")], RSFT_ROWS)
    assert read_ids(bucket) == {"1", "2"} and drop_doubles(bucket) == 0
    write_part(bucket, "b", [row("2"), row("3")], RSFT_ROWS)
    with pytest.raises(ValueError, match="2 is there twice"):
        read_ids(bucket)
    assert drop_doubles(bucket) == 1
    assert read_ids(bucket) == {"1", "2", "3"}
    write_part(bucket, "b", [], RSFT_ROWS)
    assert read_ids(bucket) == {"1", "2"}


def test_journals_hold_each_row_once(bucket):
    with Writer(bucket, "x") as first, Writer(bucket, "y") as second:
        for writer in (first, second):
            writer.commit(row("1"))
        second.commit(row("2"))
    assert {found["id"] for found in journalled(bucket)} == {"1", "2"}
    assert [found["id"] for found in journalled(bucket, "x")] == ["1"]


def test_a_copy_is_made_once_and_stays(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (bucket / "model" / "deep" / "a").write_text("1")
    (bucket / "model" / "b").write_text("2")
    copy = fetched(bucket / "model", "content-1")
    assert {f.relative_to(copy).as_posix() for f in copy.rglob("*") if f.is_file()} == {
        "deep/a",
        "b",
    }
    (bucket / "model" / "b").unlink()
    assert (fetched(bucket / "model", "content-1") / "b").read_text() == "2"
    with pytest.raises(FileNotFoundError, match="nothing at s3"):
        fetched(bucket / "none", "content-2")
    assert [f.name for f in copy.parent.iterdir() if f.name.startswith("content-2")] == [
        "content-2.lock"
    ]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_S", 0.2)
    monkeypatch.setattr(lock, "_SILENT_FOR_S", 1.5)
    monkeypatch.setattr(lock, "_LOOK_EVERY_S", 0.3)


def hold(folder, said):
    with lock_folder(folder, said.append):
        return True


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_or_the_new(bucket):
    file, texts = bucket / "often", ["a" * 900, "b" * 1100]
    write_text(file, texts[0])
    stop = threading.Event()

    def replace():
        while not stop.is_set():
            for text in texts:
                write_text(file, text)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert {read_bytes(file).decode() for _ in range(200)} <= set(texts)
    finally:
        stop.set()
        writer.join()


def test_one_job_at_a_time(bucket, quick):
    said = []
    with lock_folder(bucket, said.append):
        with pytest.raises(LedgerError, match="another job is running in s3://"):
            hold(bucket, said)
        assert (bucket / ".lock").exists()
    assert not (bucket / ".lock").exists()
    assert hold(bucket, said)
    assert len(said) == 1 and "is locked; waiting" in said[0]


def test_a_lock_whose_job_is_gone_is_taken_over(bucket, quick):
    said = []
    (bucket / ".lock").write_text("somebody 3 somewhere")
    assert hold(bucket, said)
    assert not (bucket / ".lock").exists()


@pytest.fixture
def term_is_an_exit():
    """As Ray makes it in a job."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_job_whose_lock_was_taken_over_stops(bucket, quick, term_is_an_exit):
    said = []
    with pytest.raises(SystemExit), lock_folder(bucket, said.append):
        (bucket / ".lock").write_text("somebody 1 somewhere")
        time.sleep(5)
    silence = "(no sign of life from this one for 2 s)"  # of 1.5, rounded
    assert said == [f"another job took over {bucket} {silence}; stopping"]
    assert (bucket / ".lock").read_text() == "somebody 1 somewhere"  # the other's, not removed


def test_a_bucket_that_is_not_there_and_keys_that_are_not_are_named(store, monkeypatch):
    folder = location("s3://no-such-bucket/run")
    with pytest.raises(ConfigError) as caught:
        check_writable(folder, "run_dir")
    assert str(caught.value) == (
        "run_dir: s3://no-such-bucket/run cannot be written to: The specified bucket does not exist"
    )
    without = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    without |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    nobody = "Unable to locate credentials"
    for override, words in {
        "run_dir=s3://runs/x": f"run_dir: s3://runs/x cannot be reached: {nobody}",
        "policy.model=s3://runs/m": f"policy.model: s3://runs/m cannot be reached: {nobody}",
        "prompts.dpo.path=s3://runs/p.jsonl": "the prompts of step grow_dpo: s3://runs/p.jsonl "
        f"cannot be reached: {nobody}",
    }.items():
        job = [sys.executable, "jobs/stage1.py", "conf/miniature/stage1.yaml", override]
        done = subprocess.run(job, env=without, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.strip()) == (1, f"ConfigError: {words}")
