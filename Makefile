# Short recipes that can as well be typed by hand. The environment is .venv, made from nothing.
# torch comes first, so that no other package can ask for a newer one: constraints.txt holds the
# exact versions that were tested.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check docs clean

demo: .venv/.demo  ## fine-tune a real model: LoRA against three constructions
	$(BIN)/tenslora demo

test: .venv/.dev  ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: .venv/.dev  ## lint, format, types, layers, doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q --doctest-modules --doctest-glob='*.md' tenslora README.md CONTRIBUTING.md docs/*.md docs/howto/*.md

docs: .venv/.dev  ## the pages, in docs/_build; a warning is an error
	$(BIN)/sphinx-build -n -W --keep-going -q docs docs/_build
	$(BIN)/python tools/site_check.py docs/_build

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

clean:
	rm -rf .venv build dist docs/_build *.egg-info
