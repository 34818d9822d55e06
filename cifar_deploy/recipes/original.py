"""The original report's recipe: Adam at 0.001 for 20 epochs, no augmentation.

Batch size and seed are ours; the report does not state them.
"""

from cifar_deploy.core.records import Recipe

RECIPE = Recipe(name="original", optimizer="adam", learning_rate=0.001, epochs=20, batch_size=128, seed=0)
