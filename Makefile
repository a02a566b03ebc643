# coordsim: set-up and checks. A fresh machine needs Python >= 3.11, make and git; `make help` lists the targets.

PYTHON      ?= python3
VENV        ?= .venv
PYTEST_ARGS ?= --numprocesses=auto --maxprocesses=4

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := requirements.lock

# Stamps: an install runs again only when what it installs has changed.
CORE := $(VENV)/.installed
DEV  := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types imports pytest format bench lock profiles clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(CORE) ## install, run scenarios/quickstart.yaml, print its table, keep its results in runs/quickstart
	@rm -rf runs/quickstart
	$(BIN)/coordsim run scenarios/quickstart.yaml -o runs/quickstart

test: lint types imports pytest ## install what the checks need and run them all; CI runs this

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The folder's name must be the package's, and the checkout may be called anything: a hidden folder holds one link.
types: $(DEV) ## mypy --strict, the tests too
	@mkdir -p .mypy && ln -sfn .. .mypy/coordsim
	cd .mypy && "$(abspath $(BIN))/mypy" --config-file ../pyproject.toml

imports: $(DEV) ## import-linter: the direction of imports
	$(BIN)/lint-imports --no-logo

# Last of `test`: CI reads pytest's closing line.
pytest: $(DEV) ## the tests, warnings as errors
	$(BIN)/python -m pytest $(PYTEST_ARGS)

format: $(DEV) ## let ruff repair and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## benchmarks: what depends on the machine
	$(BIN)/python -m pytest tests/benchmarks -o python_files='bench_*.py test_*.py' -o python_functions='bench_* test_*'

lock: $(DEV) ## resolve every dependency anew into requirements.lock
	$(BIN)/python .ci/lock.py

# The profiles of GPUs that ship, from the folders of aiconfigurator and Vidur in DATA (docs/calibration.md says where they
# come from). Left out: products in blocks of fp8, whose times do not fall below 80 us and look bound by the host; experts in
# fp8, measured with kernels that take twice the time of bf16. Times of launches are an H800's, eager less kernel alone.
LAWS := 'gemm[dtype=bf16]' 'gemm[dtype=fp8]' 'gemm[dtype=nvfp4]' attention.prefill attention.decode attention.encoder \
        'moe[dtype=bf16*' all_reduce all_gather reduce_scatter all_to_all send_recv norm activation \
        rotary residual embedding launch
SHIP := calibration/profiles
H100  = $(DATA)/vidur/compute/h100/Llama-2-7b-hf/mlp.csv $(DATA)/vidur/network/h100_dgx/send_recv.csv \
        $(DATA)/frontier/h800/Phi-tiny-MoE-instruct
IMPORT = $(BIN)/coordsim profile import --overwrite --quiet $(LAWS:%=--only %) --format csv >/dev/null

profiles: $(CORE) ## fit the profiles of GPUs anew: make profiles DATA=folder
	@test -d "$(DATA)/aiconfigurator" || { echo "needs DATA=folder, with aiconfigurator/ and vidur/ in it" >&2; exit 1; }
	$(IMPORT) -o $(SHIP)/a100-sxm.json --what 'A100 SXM 80 GB, kernels of SGLang 0.5 and vLLM 0.14; streams and send/recv of Vidur' $(DATA)/aiconfigurator/a100_sxm --engine gemm=sglang $(DATA)/vidur/compute/a100/Meta-Llama-3-8B/mlp.csv $(DATA)/vidur/network/a100_dgx/send_recv.csv
	$(IMPORT) -o $(SHIP)/h100-sxm.json --what 'H100 SXM 80 GB, kernels of vLLM 0.24; streams and send/recv of Vidur; launches of an H800' $(DATA)/aiconfigurator/h100_sxm $(H100)
	$(IMPORT) -o $(SHIP)/h200-sxm.json --what 'H200 SXM, kernels of vLLM 0.24; streams, send/recv of an H100 and launches of an H800 stand in' $(DATA)/aiconfigurator/h200_sxm $(H100)
	$(IMPORT) -o $(SHIP)/b200-sxm.json --what 'B200 SXM, kernels of vLLM 0.24' $(DATA)/aiconfigurator/b200_sxm
	$(IMPORT) -o $(SHIP)/l40s.json --what 'L40S, kernels of vLLM 0.24' $(DATA)/aiconfigurator/l40s

clean: ## remove what builds, checks and installs left; keeps runs/
	rm -rf $(VENV) build dist *.egg-info .mypy .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "coordsim needs Python >= 3.11, and there is no $(PYTHON); try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "coordsim needs Python >= 3.11, got $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

# The pinned setuptools first, and no build isolation: the lock pins the build too. Its warning, that a folder called
# like the package may hide an editable one, is no news here and would stand at the top of everyone's first run.
$(CORE): pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP) install -c $(LOCK) setuptools
	PYTHONWARNINGS=ignore::UserWarning $(PIP) install -c $(LOCK) --no-build-isolation -e .
	@touch $@

$(DEV): pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP) install -c $(LOCK) setuptools
	PYTHONWARNINGS=ignore::UserWarning $(PIP) install -c $(LOCK) --no-build-isolation -e '.[dev,calibrate,dask,notebook,sensitivity,trace]'
	@touch $(CORE) $@
