# Each target does all set-up by itself. Needs Python >= 3.11; uses uv where it is installed, and fetches it where not.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLED := $(VENV)/.tooled
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
INSTALL = $(PYTHON) course_lib/cli/installing.py $(VENV)
GOAL    = $(or $(firstword $(MAKECMDGOALS)),lab)
ARGS   ?=

.PHONY: lab test lint notebooks exercises bench mutants soak grading hub compare site picture doctor clean lock setup

lab: $(READY)        ## set up, start PostgreSQL, open JupyterLab on work/
	@$(BIN)/course lab $(ARGS)

test: $(TOOLED)      ## set up, then everything CI runs
	@$(BIN)/course test $(ARGS)

lint: $(TOOLED)      ## ruff over code and notebooks, mypy over course_lib
	@$(BIN)/course lint

notebooks: $(READY)  ## execute the notebooks again and store their outputs
	@$(BIN)/course notebooks $(ARGS)

exercises: $(READY)  ## make exercises/ from solutions/
	@$(BIN)/course exercises

bench: $(READY)      ## measure, and write bench-results/
	@$(BIN)/course bench $(ARGS)

mutants: $(TOOLED)   ## change right answers by machine and judge them: a score by exercise (ARGS="--lesson 03 --jobs 2")
	@$(BIN)/python -m tests.mutants $(ARGS)

soak: $(READY)       ## judge every solution fifty times while a core is busy (ARGS="3.7 --times 10")
	@$(BIN)/python -m tests.soak $(ARGS)

grading: $(TOOLED)   ## set up, with nbgrader, for whoever grades what `course classroom export` writes

hub: $(READY)        ## install JupyterHub, for a class
	@$(INSTALL) hub hub

compare: $(READY)    ## install the engines that bench sets beside pgvector
	@$(INSTALL) compare compare

site: $(VENV)/.site   ## build the pages to read without an installation, into site/
	@$(BIN)/course site

picture: $(TOOLED)   ## run what the picture of the README shows, and take it again (needs Chromium)
	@$(BIN)/python -m course_lib.site.front_picture

doctor: $(READY)     ## what is missing, and how to mend it
	@$(BIN)/course doctor

setup: $(READY)      ## only install

clean:               ## stop the server; remove the environment and caches, never work/
	@if [ -x $(BIN)/course ]; then env -u DATABASE_URL $(BIN)/course db down || true; fi
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -not -path './work/*' -prune -exec rm -rf {} +

$(READY): requirements.lock requirements-setup.lock pyproject.toml
ifeq ($(strip $(PYTHON)),)
	@echo "The course needs Python 3.11 or newer, and none was found."; \
	 echo "  → Install it from python.org or your package manager, then try again."; exit 1
endif
	@$(INSTALL) learners $(GOAL)
	@$(BIN)/python -m compileall -q course_lib
	@touch $(READY)

$(TOOLED): $(READY) requirements-dev.lock
	@$(INSTALL) authors $(GOAL)
	@touch $(TOOLED)

$(VENV)/.site: $(READY)
	@$(INSTALL) site site
	@touch $@

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

lock:                ## renew the three lists of packages (for authors; needs uv)
	$(COMPILE) --upgrade --extra authors --extra grading --extra site --extra hub \
		--output-file requirements-dev.lock pyproject.toml
	rm -f requirements.lock  # learners get what is tested: the versions of the list above
	$(COMPILE) --constraints requirements-dev.lock --output-file requirements.lock pyproject.toml
	$(COMPILE) --upgrade --group setup --output-file requirements-setup.lock
