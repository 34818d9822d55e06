#!/usr/bin/env bash
# Train a shipped network again, and show it beside the shipped one; from the project's folder:
# benchmarks/reproduce.sh NETWORK DATA_DIR OUT [OPTION ...]
# DATA_DIR is as for --dataset image_folder. It first prints what the shipped weights cost: seconds, peak memory, threads and
# processor. Compare the accuracies. It goes on where it was interrupted. OPTION is one of `train`, such as --epochs 1 for a
# quick try.
set -euo pipefail
network=$1 data=$2 out=$3
shift 3

echo "Shipped:"
python benchmarks/trainings.py . | grep -E "^\|(---| training | $network )"
command=$(python benchmarks/trainings.py --command "$network")
read -ra words <<< "$command"
echo "${words[*]}"
"${words[@]/#PATH/$data}" "$@" --out "$out"
echo "Made again:"
python benchmarks/trainings.py "$out" | grep -E "^\|(---| training | $network )"
