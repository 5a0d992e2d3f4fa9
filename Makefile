# The only door: every CI step is a target here. `make` alone lists them.

PYTHON ?= $(shell sh deploy/find-python.sh)
VENV := .venv
BIN := $(VENV)/bin
RAY_VENV := .venv-ray
export CARGO_TARGET_DIR ?= $(CURDIR)/target
EXTENSION := chainnode/_native.abi3.so
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

.PHONY: help setup here native demo test test-rust test-python test-interleavings test-system fuzz lint bench docs protos clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed here native  ## check the machine, make the environment, build the native core

$(VENV)/.installed: requirements.lock
	@sh deploy/check-machine.sh "$(PYTHON)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

# Each time, since a folder that was moved or copied takes its old path along.
here: $(VENV)/.installed
	@echo "$(CURDIR)" > $$($(CURDIR)/$(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/chainnode.pth
	@printf '%s\n' '#!$(CURDIR)/$(BIN)/python' 'import sys' \
		'from chainnode.cli.main import main' 'sys.exit(main())' > $(BIN)/chainnode
	@chmod +x $(BIN)/chainnode
	@grep -lIs '^#!.*/$(BIN)/python' $(BIN)/* | xargs -r sed -i '1s|^#!.*/$(BIN)/|#!$(CURDIR)/$(BIN)/|'

native: $(EXTENSION)  ## build the native core (Rust)

$(EXTENSION): $(RUST_SOURCES) | $(VENV)/.installed
	cargo build --release --locked -p chain-py
	@cp $(CARGO_TARGET_DIR)/release/lib_native.so $@.new && mv $@.new $@

demo: setup  ## the main job: encrypted credit scoring on a four-node network
	$(BIN)/python -m examples.bank_scoring $(if $(DATA),--data "$(DATA)")

test: setup lint test-rust test-python  ## build, lint, types, Rust and Python tests, a real testnet
	@echo "left out: make test-interleavings (compiles the executor twice more),"
	@echo "  make test-system (installs Ray and kills Ray nodes)"

test-rust:
	cargo test --release --locked -q

test-python: native
	$(BIN)/python -m pytest -q

test-interleavings: setup  ## the executor under a model checker, and with 96 threads that yield at random
	cargo test --release --locked -q -p chain-exec --features shuttle --test interleavings --test pool
	cargo test --release --locked -q -p chain-exec --features yields --test oracle --test scheduler

test-system: setup $(RAY_VENV)/.installed  ## tests that need more than the lock: a Ray cluster
	$(RAY_VENV)/bin/python -m pytest -q tests/he/test_ray_engine.py tests/keyholder/test_ray_worker.py

# Beside the other environment, whose packages it sees: only Ray and what Ray needs are installed.
$(RAY_VENV)/.installed: requirements-ray.lock $(VENV)/.installed
	$(BIN)/python -m venv $(RAY_VENV)
	@printf '%s\n' "$(CURDIR)" "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" \
		> $$($(RAY_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/base.pth
	$(RAY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.lock
	@touch $@

# Outside the workspace and its lock. `cargo fuzz` is installed below target/ if it is not there.
FUZZ_SECONDS ?= 180
FUZZ_TOOLS := $(CARGO_TARGET_DIR)/fuzz-tools
FUZZ := PATH="$(FUZZ_TOOLS)/bin:$$PATH" cargo +nightly fuzz
FUZZ_PLACE := --fuzz-dir fuzz --target-dir $(CARGO_TARGET_DIR)/fuzz
fuzz: setup  ## fuzz every decoder for FUZZ_SECONDS each; needs nightly Rust
	@PATH="$(FUZZ_TOOLS)/bin:$$PATH" cargo fuzz --version >/dev/null 2>&1 || \
		cargo install --quiet --root $(FUZZ_TOOLS) cargo-fuzz
	$(BIN)/python fuzz/seeds.py
	@for name in $$($(FUZZ) list --fuzz-dir fuzz); do echo "== $$name"; \
		$(FUZZ) run $(FUZZ_PLACE) $$name -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
			-rss_limit_mb=3000 -print_final_stats=1 || exit 1; done

lint: setup  ## format, lint, types, layers, stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest chainnode._native --ignore-missing-stub
	cargo fmt --check
	cargo clippy --release --locked --all-targets -q -- -D warnings

bench: setup  ## every benchmark in its quick form, as JSON
	@for name in verify vm executor sim96 he load; do $(BIN)/chainnode bench $$name --quick --json || exit 1; done

protos: $(VENV)/.installed  ## regenerate the wire code from protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py
	cargo run --release -q -p protogen -- .

docs: setup  ## regenerate the reference of commands and limits
	$(BIN)/python docs/generate.py

clean:  ## remove what was built (data folders of testnets stay)
	rm -rf $(VENV) $(RAY_VENV) target $(EXTENSION) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
