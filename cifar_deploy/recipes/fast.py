"""The best accuracy per minute that we have found, on small networks and a validation split (benchmarks/tune.py, tune.jsonl).

Images grow from half to full size: an epoch of small ones costs a third of one of large ones. The final epochs, at full
size and with the learning rate on its way to zero, are what counts.
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
    label_smoothing=0.1,
    warmup=0.2,
    decay="linear",
    shift=2,
    flip="alternating",
    scales=(0.5, 0.75, 1.0),
)
