# One command sets up and shows Paceline, one sets up and tests it. Everything is installed into .venv, nothing outside it.

PY := .venv/bin/python
INSTALL = $(PY) -m pip --disable-pip-version-check install $$([ -t 2 ] || echo -q) -c constraints.txt

# Compiled modules are kept even where the environment forbids it: hundreds of processes import the same ones.
PYTEST = PYTHONDONTWRITEBYTECODE= $(PY) -m pytest

.PHONY: help demo replay bench test check soak audit pictures recordings clean
.DELETE_ON_ERROR:

help:           ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

demo: .venv/demo.stamp      ## the embedded lab: train under four sharing policies, live, and see the speed-up
	@.venv/bin/paceline demo $(SESSION)

replay: .venv/base.stamp    ## a recorded session, without torch: make replay SESSION=straggler
	@.venv/bin/paceline replay $(or $(SESSION),straggler)

bench: .venv/demo.stamp     ## the same comparison on the nodes of nodes.toml, headless
	@.venv/bin/paceline --batch bench

test: .venv/test.stamp      ## everything that must hold: style, types, import directions, behaviour
	@mkdir -p build; $(MAKE) --no-print-directory check >build/check.log 2>&1 & checking=$$!; \
	$(PYTEST) -n auto --dist loadgroup --no-loadscope-reorder; tested=$$?; \
	wait $$checking; checked=$$?; cat build/check.log; \
	[ $$checked -eq 0 ] || echo "make: the checks above failed (they ran beside the tests)" >&2; \
	exit $$((tested || checked))

check: .venv/test.stamp     ## only what can be told without running it: style, types, import directions
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	cd build/imports && ../../.venv/bin/lint-imports --config ../../pyproject.toml

soak: .venv/test.stamp      ## the heavier tests, which take minutes
	$(PYTEST) -m slow

pictures: .venv/test.stamp  ## draw the pictures of README and guide from the recordings
	@$(PY) docs/pictures/draw.py

recordings: .venv/demo.stamp ## record the demo sessions again: real runs, about ten minutes
	@for script in engine/demo/scripts/*/; do name=$$(basename $$script); rm -f data/demo/$$name.pace; \
	.venv/bin/paceline --batch --record data/demo/$$name.pace demo $$name || [ $$? -eq 6 ] || exit 1; done

audit: .venv/test.stamp     ## licences, a bill of materials, and known faults of what is installed
	@[ -x build/audit/bin/pip-audit ] || { $(PY) -m venv build/audit && build/audit/bin/python -m pip -q install "pip-audit>=2.10"; } || \
	  echo "make: pip-audit cannot be installed: known faults are not checked" >&2
	@$(PY) deploy/audit.py

clean:                      ## remove .venv and caches; logs and data stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find engine tui tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The first interpreter that is new enough and can make environments. $(PYTHON) wins: make PYTHON=/opt/python/bin/python3 demo
$(PY):
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null </dev/null || continue; \
	  echo "creating .venv with $$($$python --version)"; exec $$python -m venv --clear .venv; \
	done; \
	echo "make: no Python 3.11 or newer with venv found (Debian: apt-get install python3 python3-venv; else: make PYTHON=/path/to/python3)" >&2; \
	exit 2

.venv/base.stamp: pyproject.toml constraints.txt | $(PY)
	@echo "installing into .venv (once; less than a minute)"
	@$(INSTALL) -e .
	@touch $@

.venv/demo.stamp: pyproject.toml constraints.txt | $(PY)
	@echo "installing into .venv (once; a minute or two, 2 GB)"
	@$(INSTALL) -e ".[training,data]"
	@$(PY) -m compileall -q engine tui
	@touch .venv/base.stamp $@

.venv/test.stamp: pyproject.toml constraints.txt | $(PY)
	@echo "installing into .venv (once; some minutes, 3 GB)"
	@$(INSTALL) -e ".[training,data,hub,scripts,reports,search,kubernetes,manifests,dev]"
	@$(PY) -m compileall -q engine tui
	@mkdir -p build/types/paceline && ln -sfn ../../../engine ../../../tui ../../../engine/script/library/__init__.py build/types/paceline/
	@mkdir -p build/imports/paceline && ln -sfn ../../../engine ../../../tui build/imports/paceline/
	@touch .venv/base.stamp .venv/demo.stamp $@
