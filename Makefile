# Each target does all set-up by itself. Needs Python >= 3.11; uses uv where it is installed.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV     := $(shell command -v uv 2>/dev/null)
ARGS   ?=

.PHONY: lab test lint notebooks exercises bench mutants soak compare doctor clean lock setup

lab: $(READY)        ## set up, start PostgreSQL, open JupyterLab on work/
	@$(BIN)/course lab $(ARGS)

test: $(READY)       ## set up, then everything CI runs
	@$(BIN)/course test $(ARGS)

lint: $(READY)       ## ruff over code and notebooks, mypy over course_lib
	@$(BIN)/course lint

notebooks: $(READY)  ## execute the notebooks again and store their outputs
	@$(BIN)/course notebooks $(ARGS)

exercises: $(READY)  ## make exercises/ from solutions/
	@$(BIN)/course exercises

bench: $(READY)      ## measure, and write bench-results/
	@$(BIN)/course bench $(ARGS)

mutants: $(READY)    ## change right answers by machine and judge them: a score by exercise (ARGS="--lesson 03 --jobs 2")
	@$(BIN)/python -m tests.mutants $(ARGS)

soak: $(READY)       ## judge every solution fifty times while a core is busy (ARGS="3.7 --times 10")
	@$(BIN)/python -m tests.soak $(ARGS)

compare: $(READY)    ## install the engines that bench sets beside pgvector
ifneq ($(UV),)
	@$(UV) pip install --quiet --python $(BIN)/python -e '.[compare]'
else
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[compare]'
endif

doctor: $(READY)     ## what is missing, and how to mend it
	@$(BIN)/course doctor

setup: $(READY)      ## only install

clean:               ## stop the server; remove the environment and caches, never work/
	@if [ -x $(BIN)/course ]; then env -u DATABASE_URL $(BIN)/course db down || true; fi
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -not -path './work/*' -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
ifeq ($(strip $(PYTHON)),)
	@echo "The course needs Python 3.11 or newer, and none was found."; \
	 echo "  → Install it from python.org or your package manager, then try again."; exit 1
endif
	@echo "Setting up $(VENV), which takes about a minute the first time."
ifneq ($(UV),)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@$(BIN)/python -m compileall -q course_lib
	@touch $(READY)

lock:                ## renew requirements.lock (for authors; needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra build --extra grading --output-file requirements.lock --upgrade pyproject.toml
