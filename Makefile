# fltutor: `make lab` opens the course, `make help` lists the rest.

PYTHON ?= $(if $(filter Windows_NT,$(OS)),python,python3)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
# In a container the only user is often root, whom JupyterLab refuses unless asked.
ALLOW_ROOT = $(if $(filter Windows_NT,$(OS)),,$(if $(filter 0,$(shell id -u)),--allow-root))

.PHONY: lab test check notebooks bench pictures lock help

lab: .venv/.ready  ## open the course in JupyterLab
	$(BIN)/jupyter-lab $(ALLOW_ROOT) --ServerApp.root_dir=notebooks \
	  --LabApp.default_url=/lab/tree/00_start_here.ipynb

test: .venv/.ready  ## run every test, every notebook and the browser tests
	$(PYTEST) -n $(WORKERS) --dist worksteal --doctest-modules fltutor tests

check: .venv/.ready  ## lint and format of code and notebooks, layers, no stored outputs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(PYTEST) -q tests/test_layers.py tests/test_notebooks.py::test_notebook_keeps_the_anatomy

notebooks: .venv/.ready  ## run every notebook and its exercises from a clean kernel
	$(PYTEST) -n $(WORKERS) tests/test_notebooks.py

bench: .venv/.ready  ## measure speed against peers, as ratios; BENCHMARKS="aead robust" for some
	$(BIN)/python -m benchmarks $(BENCHMARKS)

pictures: .venv/.ready  ## take the README's picture anew from a real run
	$(BIN)/python docs/pictures.py

# The lock holds for Linux, macOS and Windows: the last lines ask whether wheels exist for each.
# TenSEAL has wheels from macOS 14 on.
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc

lock: .venv/.ready  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header \
	  --group test --group build pyproject.toml --output-file requirements.lock
	for platform in $(PLATFORMS); do for version in 3.11 3.12 3.13; do \
	  MACOSX_DEPLOYMENT_TARGET=14.0 \
	  $(BIN)/uv pip install --quiet --dry-run --require-hashes --only-binary :all: --target build/none \
	    --python-platform $$platform --python-version $$version -r requirements.lock || exit 1; \
	done; done

help:  ## show this list
	@$(PYTHON) -c "import re; print('\n'.join('make %-10s %s' % m for m in re.findall(r'(?m)^(\w+):.*  ## (.*)', open('Makefile').read())))"

.venv/.ready: requirements.lock pyproject.toml .ci/environment.py .ci/overrides.json
	$(PYTHON) .ci/environment.py
