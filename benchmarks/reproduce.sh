#!/usr/bin/env bash
# Train a shipped network again, and show it beside the shipped one; from the project's folder:
# benchmarks/reproduce.sh NETWORK DATA_DIR OUT [OPTION ...]
# DATA_DIR is as for --dataset image_folder. It first prints what the shipped weights cost: seconds, peak memory, threads and
# processor. Compare the accuracies. It goes on where it was interrupted. An OPTION is one of `train`, and replaces the
# record's: --epochs 1 for a quick try, --threads 1 where there is one core.
set -euo pipefail
network=$1 data=$2 out=$3
shift 3

row() { grep -E "^\|(---| training | $network )"; }

echo "Shipped:"
python benchmarks/trainings.py . | row
# A teacher that is trained again has other weights, so its pupil would be another one.
for teacher in $(python benchmarks/trainings.py --teacher-of "$network"); do
    [ -e "$out/exported/$teacher" ] && continue
    rm -rf "$out/teacher.part"
    mkdir -p "$out/exported" "$out/teacher.part"
    cp -r "exported/$teacher/checkpoint" "$out/teacher.part"
    mv "$out/teacher.part" "$out/exported/$teacher"
done
command=$(python benchmarks/trainings.py --command "$network" -- --data-dir "$data" "$@" --out "$out")
echo "$command"
eval "$command"
echo "Made again:"
python benchmarks/trainings.py "$out" | row
