# Each target does its own set-up in .venv, from the pinned versions in constraints.txt.
#
#   make run PYTHON=python3.12          another Python
#   make run TORCH_INDEX=<address>      torch and torchvision of this index, such as PyTorch's index of CPU builds
#   make run UV=                        pip installs, though uv is here

# Without bytecode each process compiles this program again, for a third of its start. Some container images set this.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
TORCH_INDEX ?=
# uv reads none of pip's settings. Where pip has an index or a constraint of its own, pip installs.
UV ?= $(shell $(PYTHON) -m pip config list 2> /dev/null | grep -qE 'index|find-links|constraint' || command -v uv)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready# what the program needs
READY_DEV := $(VENV)/ready-dev# and what tests, lint, types and docs need

.PHONY: run test gate arm lint types schemas docs clean

# The pipeline from end to end on the built-in digits: train two small networks, export, measure, report. Nothing is downloaded
# but packages. Small batches: after 450 steps the statistics of batch norm have settled (97 % and more, 3 seeds).
run: $(READY)
	$(BIN)/cifar-deploy run --dataset digits --network resnet8 --network mobilenet-0.25 --out runs/digits \
		--recipe fast --epochs 10 --train-batch-size 32 --learning-rate 0.1 \
		--format checkpoint --format torchscript --format onnx --format onnx_int8 \
		--backend pytorch --backend torchscript --backend onnxruntime \
		--metric accuracy --metric latency --metric memory --metric parity --metric file_size \
		--metric parameters --metric macs --metric training_time --metric training_memory \
		--rounds 9 --seconds 0.2s --no-controls

test: $(READY_DEV)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Before a release: kills, full disks, damages and signals, again and again. Under an hour on two cores.
gate: $(READY_DEV)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'slow or gate'

# A pack on an emulated 64-bit Arm processor answers as this one does; nothing is timed. Debian's apt fetches 90 MB into build/arm
# once. Two minutes on two cores, three the first time. Elsewhere than on Debian: make arm DEBIAN=<address of a mirror>
arm: $(READY)
	$(BIN)/python -m tests.arm

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY_DEV)
	$(BIN)/mypy

# What --json prints, from the types in cifar_deploy/documents.py.
schemas: $(READY)
	$(BIN)/python -m cifar_deploy.documents docs/schemas

# The site of docs/ in build/docs. A dead link, or a page that asks another host for something, fails.
docs: $(READY_DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/docs/index.html"

EXTRAS := dev,ncnn,openvino
PIP_INSTALL = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
# Compiled as by pip, or the first start of each runtime would compile, and be measured.
UV_INSTALL = "$(UV)" pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt
install = $(if $(UV),$(UV_INSTALL) $1 || { echo "uv cannot install this; pip tries it" >&2; $(PIP_INSTALL) $1; },$(PIP_INSTALL) $1)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cifar-deploy needs Python 3.11 or newer; set PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV), which takes minutes (see docs/guides/install.md)"
	@$(PYTHON) -m venv $(VENV)
	@$(if $(TORCH_INDEX),$(call install,--no-deps --index-url $(TORCH_INDEX) torch torchvision))
	@$(call install,--editable .)
	@touch $@

$(READY_DEV): $(READY)
	@echo "Installing what tests, lint, types and docs need into $(VENV)"
	@$(call install,--editable '.[$(EXTRAS)]')
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
