# The same few words for everybody: make demo, make test, make serve, make bench, make lint, make format.

PYTHON ?= $(shell sh scripts/python.sh newest)
VENV ?= .venv
BIN := $(VENV)/bin
# Everything is compiled for the interpreter that runs it.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES := $(shell find vcache hotpath-macros python Cargo.toml Cargo.lock pyproject.toml -type f \
	-not -path '*/__pycache__/*' -not -path '*/django_vcache/rust/*' -not -name '*.so')

# Processes of the Python tests. Each has its own servers.
# Most tests wait for a server or a clock: one process more than there are processors keeps these busy.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
# Options for pytest: make test-python PYTEST="-k throttle"
PYTEST ?=

# Crates outside the workspace that are built with the lock file they have: it must know the workspace's dependencies.
GUESTS := benches/guest examples/ingest/ingest_hot examples/quota_guest tests/guests/probe_guest

# The hot routes of the error tracker.
INGEST := examples/ingest/ingest_hot
# It is built in the workspace's folder, with the workspace's profiles: so what both depend on is compiled once.
INGEST_PROFILE := CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only \
	CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none
INGEST_SOURCES := $(shell find $(INGEST)/src $(INGEST)/Cargo.toml $(INGEST)/Cargo.lock -type f)

# All that the crate can do, tests included.
FEATURES_BUT_SPAWN := vcache/testing,vcache/admission,vcache/json,vcache/dict,vcache/awaitable,vcache/http
FEATURES := $(FEATURES_BUT_SPAWN),vcache/spawn

# What is tested is compiled by clippy, so that lint and tests compile it once. These are `cargo clippy -- -D warnings`.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__

.PHONY: help setup shipped demo serve test test-over test-python test-rust lint lint-all-features lint-few-features format bench bench-web bench-tools
.PHONY: wheels clean

help:
	@echo "make demo    build, start a server and the error tracker of examples/ingest, send it events, show them"
	@echo "make serve   the same, and keep it running, to open in a browser"
	@echo "make test    everything that must hold: lint, Rust tests, Python tests"
	@echo "make test-over OVER=tls      what has to do with servers once more, each server with TLS"
	@echo "make test-over OVER=cluster  the same on a cluster of three nodes"
	@echo "make bench   compare with the other cache backends on this machine (about 40 minutes)"
	@echo "make bench-web  what a request costs: views, hot routes, other servers (five hours; BENCH=--quick: 20 minutes)"
	@echo "make lint    formatting, clippy, ruff, mypy"
	@echo "make format  mend what the formatters can; write docstrings of stubs and docs/reference/api"
	@echo "make wheels  wheels for Linux, two processors, CPython 3.11 to 3.14 (an hour; needs rustup)"
	@echo "make clean   remove what was built, examples and fuzz targets included"

setup: $(VENV)/.installed $(VENV)/.ingest

$(VENV)/.created: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No CPython 3.11 or newer with venv was found. Install one (Debian: python3-venv), or say PYTHON=/path/to/python."; exit 1; }
	@echo "==> $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip
	@echo "==> Installing Django, maturin and what the tests need"
	@$(BIN)/pip install --quiet -r requirements-dev.txt $(DJANGO)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	@echo "==> Building the wheel in release mode (a few minutes the first time)"
	@VIRTUAL_ENV=$(abspath $(VENV)) PATH=$(abspath $(BIN)):$$PATH $(BIN)/maturin develop --release
	@echo "$${CARGO_PROFILE_RELEASE_LTO:-as shipped}" >$@

$(VENV)/.ingest: $(VENV)/.installed $(INGEST_SOURCES)
	@echo "==> Building the hot routes of examples/ingest"
	@cd $(INGEST) && $(INGEST_PROFILE) VIRTUAL_ENV=$(abspath $(VENV)) PATH=$(abspath $(BIN)):$$PATH \
		$(abspath $(BIN))/maturin develop --release --locked --quiet --target-dir $(abspath target)
	@touch $@

# What is only tested is not optimized across crates: that takes a minute, and changes nothing that a test sees.
test test-rust test-python lint lint-all-features lint-few-features: export CARGO_PROFILE_RELEASE_LTO ?= off

# What is measured is built as it is shipped, whatever built it last.
shipped:
	@! grep -qsx off $(VENV)/.installed || rm -f $(VENV)/.installed $(VENV)/.ingest
	@$(MAKE) --no-print-directory setup

demo: setup
	@$(BIN)/python examples/ingest/demo.py

serve: setup
	@$(BIN)/python examples/ingest/demo.py --serve

# Python tests wait half of the time, so the crate is compiled with fewer features meanwhile.
test: setup
	@sh scripts/timed.sh "Lint" $(MAKE) --no-print-directory lint-all-features
	@sh scripts/timed.sh "Rust tests" $(MAKE) --no-print-directory test-rust
	@sh scripts/timed.sh "Python tests" $(MAKE) --no-print-directory --jobs=2 lint-few-features test-python

test-rust: setup
	@echo "==> Rust tests"
	@$(LINTED) sh scripts/with-server.sh $(BIN)/python cargo test --workspace --features $(FEATURES) --quiet
	@echo "==> The C table, with structs that have grown"
	@$(LINTED) sh scripts/with-server.sh $(BIN)/python cargo test -p vcache --lib --features $(FEATURES),vcache/__abi_longer --quiet abi::
	@$(LINTED) cargo test -p vcache --features $(FEATURES_BUT_SPAWN) --test ui --quiet
	@echo "==> The hot routes of examples/ingest"
	@# Code that is not optimized, as the workspace's, has large frames where JSON lies in JSON.
	@$(INGEST_PROFILE) $(LINTED) RUST_MIN_STACK=16777216 sh scripts/with-server.sh $(BIN)/python \
		cargo test --manifest-path $(INGEST)/Cargo.toml --target-dir target --locked --quiet
	@echo "==> The crates as they would be published"
	@# In the workspace's folder: cargo would compile the dependencies anew in one of its own.
	@CARGO_TARGET_DIR=$(abspath target) CARGO_PROFILE_DEV_DEBUG=line-tables-only cargo package --quiet --allow-dirty -p hotpath-macros -p vcache

test-python: setup
	@echo "==> Python tests, $$($(BIN)/python --version), Django $$($(BIN)/python -m django --version)"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

# What these have to do with servers is the same over TLS and over a cluster: they have one of their own kind, speak over
# a Unix socket, or have none.
OVER_IGNORES := tests/connection/tls tests/connection/cluster tests/admission/scripts tests/django/test_asgi_handler.py

test-over: setup
	@case "$(OVER)" in tls|cluster) ;; *) echo "Say OVER=tls or OVER=cluster."; exit 2;; esac
	@echo "==> Python tests over $(OVER)"
	@$(BIN)/python -m pytest -q --over $(OVER) -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(addprefix --ignore=,$(OVER_IGNORES)) \
		tests/backend tests/connection tests/hotpaths tests/admission tests/django $(PYTEST)

lint: lint-all-features lint-few-features

lint-few-features: setup
	@nice cargo clippy -p vcache --lib --quiet --no-default-features --features driver -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet --no-default-features --features driver,admission -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet --no-default-features --features driver,http -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet --features admission -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet --features http -- -D warnings
	@nice cargo clippy -p vcache --lib --quiet --features json,dict,awaitable,spawn -- -D warnings

lint-all-features: setup
	@echo "==> Lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@cargo fmt --all --check
	@cargo fmt --manifest-path $(INGEST)/Cargo.toml --check
	@for guest in $(GUESTS); do cargo metadata --quiet --locked --format-version 1 --manifest-path $$guest/Cargo.toml >/dev/null || exit 1; done
	@$(LINTED) cargo test --workspace --no-run --features $(FEATURES) --quiet
	@$(INGEST_PROFILE) $(LINTED) cargo test --manifest-path $(INGEST)/Cargo.toml --target-dir target --no-run --locked --quiet
	@$(LINTED) RUSTDOC=$(abspath scripts/rustdoc.sh) cargo test --doc -p vcache -p hotpath-macros --features $(FEATURES) --quiet
	@$(BIN)/mypy
	@$(BIN)/python scripts/docstrings.py --check
	@$(BIN)/python -m django_vcache stubs django_vcache.hotpaths --check
	@$(BIN)/python scripts/reference.py --check

format: setup
	@cargo fmt --all
	@cargo fmt --manifest-path $(INGEST)/Cargo.toml
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/python scripts/docstrings.py
	@$(BIN)/python -m django_vcache stubs django_vcache.hotpaths
	@$(BIN)/python scripts/reference.py

bench: shipped
	@$(BIN)/python benches/django/run.py --latency 2 $(BENCH)

bench-web: shipped bench-tools
	@$(BIN)/python benches/web/bench.py $(BENCH)

# What loads the servers, and the one that is the limit. What cannot be installed makes its rows say so.
bench-tools:
	@sh scripts/bench-tools.sh target/tools

wheels:
	@sh scripts/wheels.sh

clean:
	rm -rf .venv .venv-oldest .build dist target python/django_vcache/rust
	rm -rf benches/guest/target examples/*/target examples/*/*/target fuzz/target tests/guests/*/target
