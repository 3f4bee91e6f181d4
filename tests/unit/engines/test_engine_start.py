"""What an engine's process is given and waits for before vLLM is started in it."""

import sys
from types import SimpleNamespace

from avr.config.roles import RoleConfig
from avr.engines.memory import Device, visible_gpus, wait_for_memory
from avr.engines.settings import environment

GIB = 2**30


def test_the_sampler_that_seeded_requests_never_use_is_not_compiled_unless_asked_for():
    assert environment(RoleConfig(env={"A": "b"})) == {
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "A": "b",
    }
    asked = {"VLLM_USE_FLASHINFER_SAMPLER": "1"}
    assert environment(RoleConfig(env=asked)) == asked


def waited(free, share=0.9, timeout_s=60.0):
    """(whether there is room, seconds, what was said) where a GPU of 80 GiB has so much free."""
    now, said = [0.0], []

    def read():
        return [
            Device("GPU 0", 79 * GIB, 80 * GIB),
            Device("GPU 1", int(free(now[0]) * GIB), 80 * GIB),
        ]

    def sleep(seconds):
        now[0] += seconds

    there = wait_for_memory(share, read, said.append, timeout_s, lambda: now[0], sleep)
    return there, now[0], said


def test_an_engine_with_room_starts_at_once():
    assert waited(lambda second: 79) == (True, 0.0, [])
    assert waited(lambda second: 72) == (True, 0.0, [])
    assert waited(lambda second: 30, share=0.3) == (True, 0.0, [])  # of a GPU that is shared


def test_an_engine_waits_while_another_one_s_memory_is_freed():
    there, seconds, said = waited(lambda second: 3 if second < 7 else 79)
    assert (there, seconds) == (True, 7.0)
    assert said == ["GPU 1 has 3.0 of 80.0 GiB free, an engine asks for 90%; waiting up to 60 s"]


def test_memory_that_nobody_frees_is_waited_for_no_longer_than_a_minute():
    there, seconds, said = waited(lambda second: 71.9)
    assert (there, seconds) == (False, 60.0)
    assert said[1:] == [
        "GPU 1 has 71.9 of 80.0 GiB free, an engine asks for 90%; starting it all the same"
    ]


def test_of_the_machine_s_gpus_those_are_read_that_the_process_may_use(monkeypatch):
    calls = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda name: {"GPU-ab": 7}[name],
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=handle, total=80),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == [Device("GPU 0", 0, 80), Device("GPU 1", 1, 80)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert visible_gpus() == [Device("GPU 3", 3, 80), Device("GPU GPU-ab", 7, 80)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    assert calls == ["init", "shutdown"] * 3
