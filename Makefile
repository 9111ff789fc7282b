# naiad: `make serve` sets everything up and starts the system, `make test` tests it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc)
MODELS ?= model_repository

BIN := $(VENV)/bin
STAMPS := build/stamps
CORE := build/core
ONNXRUNTIME_ROOT ?= $(CURDIR)/build/onnxruntime
XGRAMMAR_ROOT ?= $(CURDIR)/build/xgrammar
CMAKE_ROOTS := -DONNXRUNTIME_ROOT=$(ONNXRUNTIME_ROOT) -DXGRAMMAR_ROOT=$(XGRAMMAR_ROOT)

SYSTEM_PACKAGES := g++ cmake ninja-build ca-certificates libgtest-dev libgmock-dev nlohmann-json3-dev wordnet-base
TEST_PACKAGES := prometheus
LOCKS := $(wildcard requirements/*.lock)
LOCK_TOOL := uv==0.13.9
SBOM_TOOL := cyclonedx-bom==7.5.0
PEER_PACKAGES := clang-19
FUZZ_PACKAGES := clang-19 libclang-rt-19-dev llvm-19
FUZZ_TOOLS := atheris==3.0.0 coverage

CORE_SOURCES := $(shell find core -name '*.cc' -o -name '*.h' -o -name CMakeLists.txt -o -name '*.cmake' -o -name '*.ldscript' -o -name '*.map')
PROTO_SOURCES := $(wildcard protos/naiad/v1/*.proto)
# Checkpoints of our own models.
SENTIMENT := build/sentiment-checkpoint
ENTITIES := build/entities-checkpoint
PAIRS := build/relevance-checkpoint
TOPICS := build/entailment-checkpoint

export PIP_DISABLE_PIP_VERSION_CHECK=1
PIP := $(BIN)/pip install -qq
# Every file must have a hash of the lock, and nothing is installed that the lock does not list.
PIP_LOCKED := $(PIP) --require-hashes --no-deps
# naiad itself, of which all dependencies are there already.
PIP_NAIAD := PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation --no-deps --editable .

say = @printf '==> %s\n' $(1)
comma := ,
# One thread each: several run at once, and the weights that come out depend on the number of threads.
train = OMP_NUM_THREADS=1 $(BIN)/python examples/$(1)

.PHONY: help serve test test-long exact-models check format core models protos setup sanitize bench bench-peers bench-encoder bench-encoder-peers bench-engine bench-guided bench-overload check-gpu fuzz soak lock sbom clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-19s %s\n", $$1, $$2}'

serve: core models ## set everything up and run the whole system in the foreground
	@exec $(BIN)/naiad serve --repository $(MODELS)

setup: $(STAMPS)/python ## virtual environment, dependencies and protobuf code

core: $(STAMPS)/core ## build the C++ backend

models: $(STAMPS)/models ## train and export the demo models

protos: $(STAMPS)/protos ## build the protobuf code

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/system: Makefile core/scripts/install_packages.sh | $(STAMPS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; set PYTHON=" >&2; exit 1; }
	@core/scripts/install_packages.sh $(SYSTEM_PACKAGES)
	@touch $@

$(STAMPS)/python: pyproject.toml setup.py constraints.txt $(LOCKS) $(PROTO_SOURCES) | $(STAMPS)/system
	$(call say,'Python environment in $(VENV)')
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_LOCKED) -r requirements/build.lock
	@$(PIP_LOCKED) -r requirements/export.lock
	@PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) torch==2.13.0
	@$(PIP_NAIAD)
	@$(PIP_LOCKED) -r requirements/wheels.lock
	@touch $@

$(STAMPS)/protos: $(STAMPS)/python
	@touch $@

$(STAMPS)/dev: $(STAMPS)/python
	$(call say,'test tools')
	@core/scripts/install_packages.sh $(TEST_PACKAGES)
	@$(PIP_LOCKED) -r requirements/develop.lock
	@touch $@

$(STAMPS)/headers: core/scripts/fetch_onnxruntime_headers.sh | $(STAMPS)/system
	$(call say,'ONNX Runtime headers')
	@core/scripts/fetch_onnxruntime_headers.sh $(ONNXRUNTIME_ROOT)
	@touch $@

$(STAMPS)/xgrammar: core/scripts/fetch_xgrammar.sh core/scripts/fetch_sdist.py | $(STAMPS)/system
	$(call say,'sources of the grammar library')
	@PYTHON=$(PYTHON) core/scripts/fetch_xgrammar.sh $(XGRAMMAR_ROOT)
	@touch $@

$(STAMPS)/core: $(CORE_SOURCES) $(STAMPS)/headers $(STAMPS)/xgrammar | $(STAMPS)/system
	$(call say,'C++ backend (some minutes the first time)')
	@cmake -S core -B $(CORE) -G Ninja $(CMAKE_ROOTS) -DCMAKE_BUILD_TYPE=Release >/dev/null
	@cmake --build $(CORE) -j $(JOBS) --target triton_naiad naiad_ops
	@touch $@

$(STAMPS)/models: $(STAMPS)/core $(STAMPS)/python $(shell find exporters -name '*.py') $(wildcard examples/*.py examples/data/*)
	$(call say,'short trainings of sentiment$(comma) entities and topics$(comma) side by side (two minutes)')
	@$(call train,finetune_classifier.py --quick --output $(SENTIMENT)) & trainings=$$!; \
	$(call train,train_entities.py --quick --output $(ENTITIES)) & trainings+=" $$!"; \
	$(call train,train_pairs.py --quick --kind entailment --output $(TOPICS)) & trainings+=" $$!"; \
	for training in $$trainings; do wait $$training; done
	$(call say,'exporting the demo models')
	@$(BIN)/python -m exporters.demo --repository $(MODELS) --sentiment-checkpoint $(SENTIMENT) \
	  --entities-checkpoint $(ENTITIES) --topics-checkpoint $(TOPICS)
	@touch $@

exact-models: $(STAMPS)/exact-models ## the models that only tests use: chat as floats, to compare with transformers; a cross-encoder

$(STAMPS)/exact-models: $(STAMPS)/models
	$(call say,'models that only tests use: chat with float weights$(comma) a cross-encoder')
	@$(call train,train_pairs.py --quick --pairs 3000 --output $(PAIRS))
	@$(BIN)/python -m exporters.demo --repository build/exact-models --names chat pairs --pairs-checkpoint $(PAIRS) --weights fp32
	@touch $@

test: core models exact-models $(STAMPS)/dev ## all tests but the long ones (under 15 minutes)
	$(call say,'C++ tests')
	@cmake --build $(CORE) -j $(JOBS)
	@ctest --test-dir $(CORE) --output-on-failure -j $(JOBS)
	$(call say,'Python tests')
	@$(BIN)/python -m pytest -m 'not slow'

test-long: core models exact-models $(STAMPS)/dev ## the tests that `make test` leaves out because they are long
	@$(BIN)/python -m pytest -m slow

sanitize: $(STAMPS)/core $(STAMPS)/python ## C++ tests under ASan/UBSan and TSan
	@for kind in address thread; do \
	  printf '==> C++ tests, %s sanitizer\n' $$kind; \
	  cmake -S core -B build/core-$$kind -G Ninja $(CMAKE_ROOTS) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DNAIAD_SANITIZER=$$kind >/dev/null; \
	  cmake --build build/core-$$kind -j $(JOBS); \
	  ctest --test-dir build/core-$$kind --output-on-failure -j 1; \
	done

check: $(STAMPS)/dev ## linters, types, formats
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@git ls-files 'core/*.h' 'core/*.cc' | xargs $(BIN)/clang-format --dry-run --Werror
	@mkdir -p build && $(BIN)/python -m grpc_tools.protoc -Iprotos \
	  -I$$($(BIN)/python -c 'import google.rpc, pathlib; print(pathlib.Path(next(iter(google.rpc.__path__))).parents[1])') \
	  --include_source_info --descriptor_set_out=build/naiad.binpb --include_imports $(PROTO_SOURCES)
	@$(BIN)/buf lint build/naiad.binpb --config protos/buf.yaml --path naiad
	@echo 'checks passed'

format: $(STAMPS)/dev ## rewrite the sources in the house format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@git ls-files 'core/*.h' 'core/*.cc' | xargs $(BIN)/clang-format -i

bench-peers: models $(STAMPS)/dev ## install the engines that naiad is measured against, each in an environment of its own
	@core/scripts/install_packages.sh $(PEER_PACKAGES)
	@$(BIN)/python -m benchmarks.systems.install

bench: core models $(STAMPS)/dev bench-peers ## measure naiad and its peers side by side (half an hour; ARGS=--quick: some minutes)
	@$(BIN)/python -m benchmarks.side_by_side $(ARGS)

bench-encoder-peers: core models $(STAMPS)/dev ## install the encoders that naiad is measured against
	@$(BIN)/python -m benchmarks.systems.install --encoders

bench-encoder: bench-encoder-peers ## measure naiad's encoder and its peers side by side (ARGS=--quick: four minutes)
	@$(BIN)/python -m benchmarks.encoders $(ARGS)

bench-guided: core models $(STAMPS)/dev ## measure what structured output costs
	@$(BIN)/python -m benchmarks.guided

bench-engine: core models $(STAMPS)/dev ## measure fairness, prefix reuse and speculation of the engine
	@for part in prefix speculation fairness; do $(BIN)/python -m benchmarks.$$part; done

bench-overload: core models $(STAMPS)/dev ## measure goodput, latencies and refusals at up to ten times the capacity
	@$(BIN)/python -m benchmarks.overload $(ARGS)

check-gpu: core $(STAMPS)/dev ## on a machine with a GPU: export for CUDA, serve, compare with transformers
	@$(BIN)/python -m benchmarks.gpu_check

fuzz: $(STAMPS)/fuzzers $(STAMPS)/fuzz-tools ## fuzz the services and the backend (SECONDS=600 for each target, ARGS=--targets ...)
	@$(BIN)/python -m tests.fuzz.campaign --seconds $(or $(SECONDS),600) $(ARGS)

$(STAMPS)/fuzzers: $(CORE_SOURCES) $(STAMPS)/headers $(STAMPS)/xgrammar
	$(call say,'fuzz targets of the backend')
	@core/scripts/install_packages.sh $(FUZZ_PACKAGES)
	@cmake -S core -B build/core-fuzz -G Ninja $(CMAKE_ROOTS) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DCMAKE_CXX_COMPILER=clang++-19 -DNAIAD_FUZZ=ON -DNAIAD_BUILD_TESTS=OFF >/dev/null
	@cmake --build build/core-fuzz -j $(JOBS) --target naiad_fuzzers
	@touch $@

$(STAMPS)/fuzz-tools: $(STAMPS)/dev
	@PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) $(FUZZ_TOOLS)
	@touch $@

soak: core models $(STAMPS)/dev ## half an hour of mixed traffic; nothing may grow or get lost (MINUTES=30; ARGS=--faults: with faults)
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30) $(ARGS)

lock: $(STAMPS)/python ## write requirements/*.lock anew, after a change of dependencies or of constraints.txt
	@PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) $(LOCK_TOOL)
	@UV=$(BIN)/uv requirements/lock.sh

sbom: $(STAMPS)/python ## list what is served, package by package, in build/sbom.json (CycloneDX)
	@PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) $(SBOM_TOOL)
	@$(BIN)/cyclonedx-py requirements --output-reproducible --of JSON -o build/sbom.json \
	  --pyproject pyproject.toml requirements/serve.lock
	@echo build/sbom.json

clean: ## remove what was built, keep the virtual environment and the models
	@rm -rf build/core build/core-address build/core-thread build/core-fuzz $(STAMPS)/core $(STAMPS)/fuzzers
