# `make help` lists the targets. Two of them need nothing but Rust and a C compiler: `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test sim lint e2e bench bench-check fuzz doc clean e2e-tools

CARGO ?= cargo
# Where cargo puts everything; e2e finds the programs there.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(TARGET)/e2e-venv
DATADOG_VENV := $(TARGET)/e2e-venv-datadog
NODE := $(TARGET)/e2e-node

# Every end-to-end test is a file in e2e/tests. Those that need this machine only are named here; what is not named
# needs a client or a server of somebody else, and belongs to `make e2e`.
E2E_LOCAL_NAMES := http1_% http2_% tls tcp lifecycle reload cli admin large_bodies discovery \
	health mirror connection_cap resilience policies admission balancing kit module_order own_answers spans trace trace_formats trace_context trust pipeline% app_output ctl graph \
	destinations recording recording_sinks replay_compare sink_otlp_answers sink_splunk sink_zipkin
E2E_ALL := $(sort $(basename $(notdir $(wildcard e2e/tests/*.rs))))
E2E_LOCAL := $(filter $(E2E_LOCAL_NAMES),$(E2E_ALL))
E2E_TOOLS := $(filter-out $(E2E_LOCAL_NAMES),$(E2E_ALL))

# What `make e2e` installs: clients and servers that are not ours.
E2E_PACKAGES := curl nginx-light haproxy wrk nghttp2-client nghttp2-server valgrind python3 python3-venv nats-server prometheus
E2E_COMMANDS := curl nginx haproxy wrk h2load nghttp nghttpd valgrind python3 node npm nats-server promtool prometheus

# Servers are installed where only root looks.
export PATH := $(PATH):/usr/sbin:/sbin

# cargo-nextest where it is installed: the same tests, more of them at once.
TEST_RUN = $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run" || echo test)

SIM_SEEDS ?= 500
FUZZ_SECONDS ?= 30
FUZZ_TARGETS := $(sort $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
FUZZ_TOOLCHAIN ?= +nightly

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)$$/  make \1\t\2/' | expand -t 14
	@echo
	@echo "Variables: KEEP=1 (demo: leave the mesh up), DEMO_DEBUG=1 (demo: debug build), FUZZ_SECONDS=30 (of each target),"
	@echo "           BENCH='--work h1 --rounds 3' (arguments of the benchmark)"

demo: ## a small mesh on loopback: build it, drive it, tell what was observed
ifdef DEMO_DEBUG
	$(CARGO) build --bin sidelight
	$(TARGET)/debug/sidelight demo
else
	$(CARGO) build --release --bin sidelight
	$(TARGET)/release/sidelight demo
endif

test: ## every test that needs no more than this machine
	$(CARGO) build --bin sidelight
	SIDELIGHT_BIN=$(TARGET)/debug/sidelight $(CARGO) $(TEST_RUN) --no-fail-fast --workspace --lib --bins $(addprefix --test ,$(E2E_LOCAL))

sim: ## the stack on a simulated network with many seeds (SIM_SEEDS of each kind, or one: SIM_SEED=n)
	SIM_SEEDS=$(SIM_SEEDS) $(CARGO) $(TEST_RUN) --no-fail-fast --lib simulation

lint: ## format, clippy, documentation, dependencies, example configurations
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(MAKE) --no-print-directory doc
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny check bans licenses sources; \
	else \
		echo "cargo-deny is not installed, so licences and bans were not checked: cargo install --locked cargo-deny"; \
	fi
	$(CARGO) run --quiet --bin sidelight -- check proxy-config/*.yaml

e2e: e2e-tools ## the tests that need other people's clients and servers, against the release build
	$(CARGO) build --release --bin sidelight
	@if [ -z "$(E2E_TOOLS)" ]; then echo "no test in e2e/tests needs tools: there is nothing to run"; exit 0; fi; \
	set -x; PATH="$(VENV)/bin:$$PATH" SIDELIGHT_BIN=$(TARGET)/release/sidelight \
		$(CARGO) $(TEST_RUN) --no-fail-fast -p e2e $(addprefix --test ,$(E2E_TOOLS))

comma := ,
# A Python environment of its own with what a file names, made anew when the file has changed: environment,home,file,modules
define environment
if ! cmp -s $(2) $(1)/requirements.txt || ! $(1)/bin/python3 -c 'import $(3)' 2>/dev/null; then \
	echo "installing into $(1): what $(2) names"; \
	python3 -m venv --clear $(1) && $(1)/bin/pip install --quiet --disable-pip-version-check -r $(2) && cp $(2) $(1)/requirements.txt; \
fi
endef

e2e-tools:
	@missing=""; for command in $(E2E_COMMANDS); do command -v $$command >/dev/null || missing="$$missing $$command"; done; \
	packages="$(E2E_PACKAGES)"; command -v npm >/dev/null || packages="$$packages nodejs npm"; \
	if [ -n "$$missing" ] || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing:$${missing:- python3-venv}"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends $$packages >/dev/null; \
		else \
			echo "missing:$${missing:- python3-venv}; as root: apt-get install $$packages" >&2; exit 1; \
		fi; \
	fi
	@$(call environment,$(VENV),e2e/clients/requirements.txt,grpc$(comma) websockets$(comma) flask)
	@$(call environment,$(DATADOG_VENV),e2e/clients/requirements-datadog.txt,ddapm_test_agent)
	@if ! cmp -s e2e/apps/package-lock.json $(NODE)/package-lock.json || [ ! -e $(NODE)/node_modules/.package-lock.json ]; then \
		echo "installing into $(NODE): what e2e/apps/package-lock.json names"; \
		mkdir -p $(NODE) && cp e2e/apps/package.json e2e/apps/package-lock.json $(NODE)/ \
			&& npm ci --prefix $(NODE) --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null; \
	fi

bench: ## parts by criterion, then what a request costs beside haproxy, nginx and Envoy (benches/README.md)
	$(CARGO) bench --bench codec --bench context --bench route --bench balance --bench layers --bench signature --bench graph
	$(CARGO) bench --bench proxy -- $(BENCH)

bench-check: e2e-tools ## instructions of a request (callgrind) against benches/callgrind.baseline; over 5 % more fails
	$(CARGO) build --release --bin sidelight
	@# The program that is released is measured; the harness is quick enough as tests are built.
	$(CARGO) bench --profile dev --bench proxy -- --work callgrind --peers none --check --sidelight $(TARGET)/release/sidelight

fuzz: ## each fuzz target for FUZZ_SECONDS
	@if ! $(CARGO) fuzz --version >/dev/null 2>&1; then \
		echo "cargo-fuzz is not installed; it needs a nightly compiler:"; \
		echo "    rustup toolchain install nightly && cargo install --locked cargo-fuzz"; \
		exit 1; \
	fi
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target, $(FUZZ_SECONDS) s"; \
		$(CARGO) $(FUZZ_TOOLCHAIN) fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048; \
	done

doc: ## the crate documentation, private items too: it is for those who work on the code
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --package sidelight --no-deps --lib --document-private-items

clean: ## forget everything that was built
	$(CARGO) clean
