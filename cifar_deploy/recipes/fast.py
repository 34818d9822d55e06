"""The best accuracy per minute that we have found, on small networks and a validation split (benchmarks/tune.py, tune.jsonl).

Images grow to their full size halfway: until then an epoch costs little more than half. Biases learn four times as fast as
all else (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", has them learn 64 times as fast). At sixteen times, channels of
narrow networks die (docs/results.md).
"""

from cifar_deploy.core.records import Recipe

RECIPE = Recipe(
    name="fast",
    optimizer="sgd",
    learning_rate=0.2,
    epochs=20,
    batch_size=128,
    seed=0,
    momentum=0.9,
    weight_decay=5e-4,
    bias_rate=4.0,
    label_smoothing=0.1,
    warmup=0.2,
    decay="linear",
    shift=2,
    flip="alternating",
    scales=(0.75, 1.0),
)
