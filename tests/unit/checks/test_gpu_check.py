"""What the check of a machine makes of facts and errors; tests/integration has the check itself."""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from avr.checks.faults import gpu_faults, host_faults, version_faults
from avr.checks.nvml import holders_by_uuid
from avr.checks.outcome import CheckFailed, Finding, Outcome, Skipped, carry_out, cause
from avr.checks.report import report, show, write
from avr.checks.settings import NAMES, GpuCheckConfig, HostLimits, check
from avr.config.errors import ConfigError
from avr.config.load import load

GPU, CPU = Path("conf/gpu_check.yaml"), Path("conf/gpu_check_cpu.yaml")
H100 = {
    "name": "H100",
    "uuid": "a",
    "capability": [9, 0],
    "free_gib": 78.6,
    "total_gib": 79.1,
    "wrong": "",
}
SEEN = {"nvml": "", "torch": "", "gpus": [H100], "holders": {}}
HOST = {
    "marker": True,
    "run_dir_gib": 900.0,
    "temporary": "/tmp",
    "temporary_gib": 100.0,
    "write_mib_per_s": 800.0,
    "open_files": 65536,
    "shared_memory_gib": 64.0,
}


def made(check, limit_s=30):
    return carry_out("one", check, limit_s)


def raising(error):
    def check():
        raise error

    return check


@pytest.mark.parametrize("file", [GPU, CPU], ids=lambda file: file.stem)
def test_both_recipes_can_be_used(file):
    config = load(GpuCheckConfig, file)
    check(config)
    assert config.checks == list(NAMES)
    assert config.dpo.trl["precompute_ref_log_probs"] and config.rsft.trl["max_steps"] == 2


def test_the_recipe_without_gpus_asks_for_none():
    config = load(GpuCheckConfig, CPU)
    roles = (config.policy, config.reward_model, config.rsft, config.dpo)
    assert not config.use_gpu and not any(role.use_gpu for role in roles)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("device=3", "did you mean 'devices'"),
        ("limits.open_file=3", "did you mean 'limits.open_files'"),
        ("checks=[hosts]", "unknown check 'hosts'; there are: cluster, versions"),
        ("checks=[]", "checks is empty"),
        ("devices=0", "devices is 0, must be at least 1"),
        ("devices=null", "devices is not set"),
        ("policy.engine.max_model_length=3", "did you mean 'max_model_len'"),
        ("other_model=./nowhere", "other_model: no model folder at ./nowhere"),
        ("reward_model.model=avr/miniature/models/policy", "not a sequence classifier"),
        ('run_dir=""', "run_dir is empty"),
    ],
)
def test_a_setting_that_cannot_be_is_named(override, words):
    with pytest.raises(ConfigError) as caught:
        check(load(GpuCheckConfig, CPU, [override]))
    assert words in str(caught.value)


def test_a_check_ends_with_what_it_found():
    result = made(lambda: Finding("two machines", {"machines": 2}))
    assert (result.outcome, result.words) == (Outcome.passed, "two machines")
    assert result.figures == {"machines": 2} and result.traceback is None


def test_a_check_that_cannot_be_made_says_why():
    result = made(raising(Skipped("one device")))
    assert (result.outcome, result.words, result.traceback) == (Outcome.skipped, "one device", None)


def test_a_check_that_fails_keeps_its_figures_and_an_error_its_traceback():
    found = made(raising(CheckFailed("too\n  slow", {"rate": 3})))
    assert (found.outcome, found.words, found.figures) == (Outcome.failed, "too slow", {"rate": 3})
    broken = made(raising(KeyError("loss")))
    assert broken.outcome is Outcome.failed and broken.words == "KeyError: 'loss'"
    assert "Traceback" in broken.traceback and "\n" not in broken.words


def test_a_check_that_hangs_has_failed_and_the_next_one_is_made():
    never = threading.Event()
    began = time.monotonic()
    result = made(lambda: never.wait(60), limit_s=0.3)
    assert time.monotonic() - began < 30
    assert result.outcome is Outcome.failed and "no end after 0 s (timeout_s)" in result.words
    never.set()


def test_the_cause_is_the_innermost_error_in_one_line():
    try:
        try:
            raise ValueError("reward parity failed for m\nand more")
        except ValueError as inner:
            raise RuntimeError("a task failed") from inner
    except RuntimeError as error:
        assert cause(error) == "ValueError: reward parity failed for m"
    assert cause(RuntimeError("rsft: rank 0 failed: no disk\n  trace\n  logs: here")) == (
        "rsft: rank 0 failed: no disk"
    )
    remote = RuntimeError("ray::look() (pid=1)\n  File x\nOSError: [Errno 28] No space left")
    assert cause(remote) == "OSError: [Errno 28] No space left"
    assert len(cause(RuntimeError("x" * 9000))) < 500


def test_gpus_that_are_as_promised_have_no_fault():
    assert gpu_faults(SEEN, 1, 0.95) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpus": [], "torch": "driver too old"}, "promises 1 GPUs, torch sees 0 (driver too old)"),
        ({"gpus": [H100, H100]}, "Ray promises 1 GPUs, torch sees 2"),
        ({"nvml": "no package"}, "NVML cannot be asked: no package"),
        (
            {"gpus": [{**H100, "name": "T4", "capability": [7, 5]}]},
            "GPU 0 (T4) has compute capability 7.5: bfloat16 and FlashAttention need 8.0",
        ),
        ({"gpus": [{**H100, "wrong": "no kernel image"}]}, "GPU 0 (H100): no kernel image"),
        (
            {
                "gpus": [{**H100, "free_gib": 12.0}],
                "holders": {"a": [{"pid": 7, "name": "python", "gib": 65.1}]},
            },
            "12 of 79.1 GiB are free; the rest is held by python (process 7, 65.1 GiB)",
        ),
        ({"gpus": [{**H100, "free_gib": 75.0}]}, "held by processes that are not seen from here"),
    ],
)
def test_each_fault_of_a_gpu_is_named(change, words):
    (found,) = gpu_faults({**SEEN, **change}, 1, 0.95)
    assert words in found


def test_a_host_with_room_has_no_fault_and_an_object_store_is_never_full():
    assert host_faults(HOST, HostLimits(), works=True) == []
    assert host_faults({**HOST, "run_dir_gib": None}, HostLimits(), works=True) == []


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("run_dir_gib", 120.0, "run_dir has 120 GiB free, limits.run_dir_gib is 400"),
        ("temporary_gib", 3.0, "/tmp (TMPDIR) has 3 GiB free"),
        ("write_mib_per_s", 9.5, "run_dir takes 9.5 MiB/s, limits.write_mib_per_s is 100"),
        ("open_files", 1024, "a process may open 1024 files (ulimit -n)"),
        ("shared_memory_gib", 0.062, "/dev/shm has 0.062 GiB (docker: --shm-size"),
    ],
)
def test_each_thing_that_a_host_lacks_is_named(fact, value, words):
    (found,) = host_faults({**HOST, fact: value}, HostLimits(), works=True)
    assert words in found
    assert host_faults({**HOST, fact: value}, HostLimits(), works=False) == []


def test_a_folder_that_another_machine_does_not_see_is_a_fault_of_every_machine():
    alone = {**HOST, "marker": False, "write_mib_per_s": None}
    (found,) = host_faults(alone, HostLimits(), works=False)
    assert "run_dir is not shared" in found


def test_packages_that_differ_between_machines_are_named():
    one = {"python": "3.11.9", "packages": {"torch": "2.13.0", "vllm": "0.32.0"}}
    assert version_faults({"a": one, "b": one}) == []
    other = {"python": "3.11.9", "packages": {"torch": "2.12.0"}}
    assert version_faults({"a": one, "b": other}) == [
        "torch is 2.13.0 on a and 2.12.0 on b",
        "vllm is 0.32.0 on a and none on b",
    ]


def test_nvml_that_is_not_there_is_said_in_its_own_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert holders_by_uuid()["nvml"].startswith("ModuleNotFoundError")


def test_processes_on_a_gpu_are_found_by_its_uuid(monkeypatch):
    """A scripted NVML: two GPUs, one held by this process and one that nobody sees into."""
    running = [[SimpleNamespace(pid=1 << 30, usedGpuMemory=None)], []]
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}",
        nvmlDeviceGetComputeRunningProcesses=lambda index: running[index],
        nvmlSystemGetCudaDriverVersion=lambda: 13010,
        nvmlSystemGetDriverVersion=lambda: b"580.65",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert holders_by_uuid() == {
        "nvml": "",
        "driver": "580.65",
        "driver_cuda": "13.1",
        "holders": {"0": [{"pid": 1 << 30, "name": "unknown", "gib": None}], "1": []},
    }


def test_a_report_passes_where_nothing_failed_and_something_was_checked(tmp_path):
    passed, failed, skipped = (
        made(lambda: Finding("[8 GPUs]")),
        made(raising(KeyError("loss"))),
        made(raising(Skipped("--cpu"))),
    )
    show([passed, failed, skipped])
    assert report([passed, skipped], {}, 2)["passed"]
    assert not report([passed, failed], {}, 2)["passed"]
    assert not report([skipped], {}, 2)["passed"]
    write(tmp_path / "report.json", report([passed, failed], {"a": {}}, 2))
    read = json.loads((tmp_path / "report.json").read_text())
    assert [one["outcome"] for one in read["checks"]] == ["passed", "failed"]
    assert read["checks"][0]["words"] == "[8 GPUs]" and read["machines"] == {"a": {}}


def test_an_error_that_is_its_own_cause_is_said_once():
    outer, inner = ValueError("outer"), KeyError("inner")
    outer.cause, inner.cause = inner, outer
    assert cause(outer) == "KeyError: 'inner'"


def test_the_worker_s_error_is_told_and_not_the_traceback_that_it_names_as_its_cause():
    class RayTaskError(ValueError):
        def __str__(self):
            return "\x1b[36mray::Host.score()\x1b[39m (pid=1)\n  File x\nParityError: parity failed"

    # As Ray hands it on: the worker's error, unpickled, has Ray's for its cause.
    told, first, second = ValueError("parity failed\nmore"), RayTaskError(), RayTaskError()
    first.cause, told.__cause__, second.cause = told, second, told
    assert cause(first) == "ValueError: parity failed"
    assert cause(second) == "ValueError: parity failed"
