#!/usr/bin/env bash
# Make reports/ anew, of the networks in exported/ on this machine; from the project's folder: benchmarks/evaluation.sh DATA_DIR OUT
# DATA_DIR is as for --dataset image_folder; OUT holds every format and all results. With the five networks three hours or
# more, in which the machine should do nothing else; stop it and start it again as you like, it goes on.
set -euo pipefail
data=$1 out=$2

all_that_can() { # what cannot be made or measured here is a row with its reason, and an exit code of 1
    cifar-deploy "$@" || [ $? -eq 1 ]
}

cifar-deploy data --dataset image_folder --data-dir "$data"
all_that_can env create executorch
all_that_can env create litert
for folder in exported/*/checkpoint; do
    mkdir -p "$out/$folder"
    cp "$folder"/*.* "$out/$folder"
done

time all_that_can export --out "$out"
all_that_can export --out "$out" --input uint8 --format onnx --format onnx_int8 --format openvino_ir
all_that_can evaluate --out "$out"
all_that_can evaluate --out "$out" --metric accuracy --max-isa avx2 --max-isa sse41
# With an empty cache the page shows none of the test images: they are not ours to ship.
empty=$(mktemp -d)
CIFAR_DEPLOY_CACHE=$empty cifar-deploy report --out "$out"
rm -r "$empty"
cp "$out"/reports/report{.md,.svg,.html,.csv,-wide.csv} reports
cp "$out"/reports/results.jsonl reports
