# The venv is made once, in .venv; `make PYTHON=/path/to/python3 demo` chooses the Python that makes it.
PYTHON ?=
PYTEST_ARGS ?=
# A file of tests at a time on each worker, one worker a core, in the order of tests/conftest.py; a worker may need 3 GB.
PYTEST_WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

VENV_PYTHON := .venv/bin/python
RUNTIME := .venv/.runtime-installed
DEVELOPMENT := .venv/.development-installed

SAMPLE := output/mni152_t1.nii.gz
RESULT := output/demo/mni152_t1/mni152_t1

BENCHMARKS := anatomy attention attention_scaling end_to_end engines flags qkv_training startup unetr

.PHONY: help demo test coverage lint audit bench bundle clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' Makefile | while read -r target text; do printf '  make %-8s %s\n' "$$target" "$$text"; done

demo: export MPLCONFIGDIR ?= $(CURDIR)/.venv/.matplotlib
demo: $(RUNTIME) $(SAMPLE) ## segment a sample brain scan and print where the results are
	$(VENV_PYTHON) -m monai.bundle run --config_file configs/inference.json --datalist "['$(SAMPLE)']" \
		--output_dir output/demo --overwrite True
	@for file in $(RESULT)_seg.nii.gz $(RESULT)_volumes.tsv $(RESULT)_qc.png $(RESULT)_seg.json $(RESULT)_record.json; do \
		test -s "$$file" || { echo "error: $$file was not written" >&2; exit 1; }; \
	done
	@echo
	@echo "label map:      $(RESULT)_seg.nii.gz"
	@echo "volumes table:  $(RESULT)_volumes.tsv"
	@echo "picture:        $(RESULT)_qc.png"
	@echo "BIDS sidecar:   $(RESULT)_seg.json"
	@echo "record:         $(RESULT)_record.json"

test: $(DEVELOPMENT) ## run the tests; PYTEST_ARGS="-k window" passes options to pytest
	$(VENV_PYTHON) -m pytest -q $(PYTEST_WORKERS) $(PYTEST_ARGS)

coverage: $(DEVELOPMENT) ## run the tests and print how much of the code they reach
	$(VENV_PYTHON) -m pytest -q $(PYTEST_WORKERS) $(PYTEST_ARGS) --cov --cov-report=term

lint: $(DEVELOPMENT) ## check style, format, types and the direction of imports
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache --no-logo

audit: $(RUNTIME) ## ask PyPI whether a pinned version has a known vulnerability
	@sh scripts/audit.sh

bench: $(RUNTIME) ## run the benchmarks that need no data, one after another
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(VENV_PYTHON) -m "benchmarks.$$name"; done

bundle: $(RUNTIME) ## pack the bundle as a zip for the model zoo, in dist/
	$(VENV_PYTHON) -m scripts.pack_bundle

clean: ## remove output/ and .venv/
	rm -rf output .venv

$(SAMPLE): | $(RUNTIME)
	$(VENV_PYTHON) -m scripts.sample_volume $@

$(RUNTIME): requirements.txt constraints.txt scripts/environment.sh
	@PYTHON="$(PYTHON)" sh scripts/environment.sh requirements.txt
	@touch $@

$(DEVELOPMENT): $(RUNTIME) requirements-dev.txt requirements-cohort.txt
	@PYTHON="$(PYTHON)" sh scripts/environment.sh requirements-dev.txt requirements-cohort.txt
	@touch $@
