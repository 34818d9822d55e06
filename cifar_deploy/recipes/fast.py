"""The best accuracy per minute that we have found."""

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
    shift=4,
    flip="alternating",
    scales=(0.5, 0.75, 1.0),
)
