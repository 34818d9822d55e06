#!/usr/bin/env bash
# Train what is shipped in exported/ and compared in reports/: benchmarks/networks.sh DATA_DIR OUT
# A day on two cores; stop it and start it again as you like, it goes on. DATA_DIR is as for --dataset image_folder.
set -euo pipefail
data=$1 out=$2

train() {
    cifar-deploy train "$@" --dataset image_folder --data-dir "$data" --out "$out"
}

# The original report's comparison, and the same networks under the better recipe; all in bfloat16, which halves the
# ResNet's time.
train mobilenet --recipe fast --bf16 --half
train mobilenet --recipe paper --bf16 --name mobilenet-paper
# In less than half of the time of the paper recipe's 20 epochs.
train mobilenet --recipe fast --bf16 --epochs 10 --name mobilenet-10
train resnet18 --recipe fast --bf16 --half
# The small ones, with three seeds.
for network in resnet20 mobilenet-0.25 resnet8; do
    train "$network" --recipe fast --half
    for seed in 1 2; do
        train "$network" --recipe fast --seed "$seed" --name "$network-seed$seed"
    done
done
train resnet18 --recipe paper --bf16 --name resnet18-paper
