# make demo   the main job on the embedded default     make test   checks and tests
.DEFAULT_GOAL := help
.NOTPARALLEL:
export PYTHONUNBUFFERED := 1
MODULES ?=
.PHONY: help setup demo stage1 stage2 test test-all check unit core integration mutation long chaos bench replicate requirements miniature-models clean
EXTRA ?= cpu
PYTHON_ := .venv/bin/python
RUN_DIR ?= runs/miniature
STAGES ?= 1
N ?= 100
SEEDS ?= 0,1,2
comma := ,

help:
	@echo "make demo               Stage I in the miniature world, from nothing ($(RUN_DIR))"
	@echo "make demo STAGES=1,2    Stage I and then Stage II ($(RUN_DIR)-stage2)"
	@echo "make test               lint, types, unit tests, a core of integration tests, from nothing"
	@echo "make test-all           the same and all other tests (hours)"
	@echo "make check | unit | core | integration | mutation | long"
	@echo "make chaos N=100        kill so many nodes, engines, tasks and drivers; compare what is left"
	@echo "make bench              quick versions of the benchmarks (runs/benchmarks)"
	@echo "make replicate          the paper's table in the miniature world, seeds $(SEEDS) (runs/replicate)"
	@echo "make setup [EXTRA=gpu]  only the environment (.venv)"
	@echo "make miniature-models   train the three tiny models again"
	@echo "make requirements       compile requirements/*.txt from pyproject.toml"

setup: .venv/.ready-$(EXTRA)

.venv/.ready-$(EXTRA): requirements/install.sh requirements/$(EXTRA).txt pyproject.toml
	@requirements/install.sh $(EXTRA)

demo: setup $(foreach stage,$(subst $(comma), ,$(STAGES)),stage$(stage))

stage1: setup
	@$(PYTHON_) jobs/stage1.py conf/miniature/stage1.yaml run_dir=$(RUN_DIR)

stage2: setup
	@$(PYTHON_) jobs/stage2.py conf/miniature/stage2.yaml stage1_dir=$(RUN_DIR) run_dir=$(RUN_DIR)-stage2

test: check unit core

test-all: test integration mutation long

check: setup
	$(PYTHON_) -m ruff check .
	$(PYTHON_) -m ruff format --check .
	$(PYTHON_) -m mypy

unit: setup
	$(PYTHON_) -m pytest tests/unit

# Small changes to all of avr/core and avr/rows, each of which a unit test must notice.
# MODULES="core.growth rows.rules" changes those alone.
mutation: setup
	$(PYTHON_) tests/mutation.py $(MODULES)

core: setup
	$(PYTHON_) -m pytest tests/integration/test_core.py

integration: setup
	$(PYTHON_) -m pytest tests/integration -m "not core and not long"

long: setup
	$(PYTHON_) -m pytest tests/integration -m long

chaos: setup
	$(PYTHON_) tests/integration/chaos.py --kills $(N) --report runs/chaos.json

replicate: setup
	$(PYTHON_) jobs/replicate.py conf/miniature/replicate.yaml seeds=[$(SEEDS)]

BENCH = BENCHMARK_RESULTS=runs/benchmarks $(PYTHON_) benchmarks

bench: setup
	$(BENCH)/roofline.py conf/llama3_8b/*.yaml
	$(BENCH)/trees.py conf/miniature/stage1.yaml --quick --prompts 64 --widened 8
	$(BENCH)/search.py conf/miniature/stage2.yaml policy.model=avr/miniature/models/corrector --queries 32 --rounds 1 --arms ideal-turns
	$(BENCH)/training.py --quick --rounds 1 --layers 0
	$(BENCH)/scaling.py --engines 16 --trees-per-engine 128 --prompts 1000 10000
	$(BENCH)/startup.py conf/miniature/stage1.yaml --parts engine --rounds 1
	$(BENCH)/sandbox.py --rounds 1 --programs 20
	$(BENCH)/collect.py
	$(BENCH)/scaling_charts.py

# Not of the set-up as a whole, which fails until these files agree with pyproject.toml.
.venv/bin/uv:
	@requirements/install.sh $(EXTRA)

TARGET = --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --quiet
COMPILE = .venv/bin/uv pip compile pyproject.toml --extra test --override requirements/overrides.txt $(TARGET)

requirements: .venv/bin/uv
	$(COMPILE) --extra cpu $(foreach place,$(PIP_FIND_LINKS),--find-links $(place)) -o requirements/cpu.txt
	$(COMPILE) --extra gpu -o requirements/gpu.txt
	printf 'boto3\ngoogle-api-python-client\n' | .venv/bin/uv pip compile - $(TARGET) \
	    --override requirements/gpu.txt | grep -vxFf requirements/gpu.txt >requirements/cluster.txt

miniature-models: setup
	$(PYTHON_) -m avr.miniature.prompts
	$(PYTHON_) -m avr.miniature.making.train --out build/miniature
	for role in policy corrector reward; do \
	    cp build/miniature/$$role/* avr/miniature/models/$$role/; done
	$(PYTHON_) -m avr.miniature.making.gates

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
