# Each target does its own set-up in .venv, from the pinned versions in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test gate lint types schemas docs clean

# The pipeline from end to end on the built-in digits: train both networks, export, measure, report. Nothing is downloaded but packages.
run: $(VENV)/ready
	$(BIN)/cifar-deploy run --dataset digits --epochs 4 --budget 150s --out runs/digits \
		--format checkpoint --format torchscript --format onnx --format onnx_int8 \
		--backend pytorch --backend torchscript --backend onnxruntime

test: $(VENV)/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Before a release: kills, full disks, damages and signals, again and again. Under an hour on two cores.
gate: $(VENV)/ready
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'slow or gate'

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

# What --json prints, from the types in cifar_deploy/documents.py.
schemas: $(VENV)/ready
	$(BIN)/python -m cifar_deploy.documents docs/schemas

# The site of docs/ in build/docs. A dead link, or a page that asks another host for something, fails.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/docs/index.html"

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cifar-deploy needs Python 3.11 or newer; set PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,ncnn,openvino]'
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
