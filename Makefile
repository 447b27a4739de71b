# Short recipes that can as well be typed by hand. The environment is .venv, made from nothing.
# torch comes first, so that no other package can ask for a newer one: constraints.txt holds the
# exact versions that were tested.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

PAGES := README.md CONTRIBUTING.md docs/*.md docs/howto/*.md

.PHONY: demo test check doctest docs look clean

demo: .venv/.demo  ## fine-tune a real model: LoRA against three constructions
	$(BIN)/tenslora demo

test: .venv/.dev  ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: doctest  ## lint, format, types, layers, doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

doctest: .venv/.dev  ## the examples in docstrings and pages
	$(BIN)/python -m pytest -q --doctest-modules --doctest-glob='*.md' tenslora $(PAGES)

docs: .venv/.dev  ## the pages, in docs/_build; a warning is an error
	$(BIN)/sphinx-build -n -W --keep-going -q docs docs/_build
	$(BIN)/python tools/site_check.py docs/_build

look: .venv/.dev .venv/pyodide  ## the pages that are in docs/_build, in Chromium
	$(BIN)/python tools/site_look.py docs/_build --all
	$(BIN)/python tools/site_explore.py docs/_build --pyodide .venv/pyodide

.venv/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e ".[demo]"
	touch $@

.venv/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps timm  # without torchvision, whose wheels load beside one build of torch only
	touch $@ .venv/.demo

.venv/pyodide: docs/_ext/explorer.py  # Python for the explorer, as the content network has it
	rm -rf $@ && mkdir -p $@
	npm pack --silent --pack-destination $@ \
		pyodide@$$(sed -n 's/^PYODIDE = "\(.*\)"$$/\1/p' docs/_ext/explorer.py)
	tar -xzf $@/pyodide-*.tgz -C $@ --strip-components 1 && touch $@

clean:
	rm -rf .venv build dist docs/_build *.egg-info
