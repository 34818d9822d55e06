"""Defaults of the command line and of the Python functions. Importing this module costs nothing."""

ROUNDS = 7

# Longest wait before each round for the processor to cool down.
COOL_WAIT_S = 15.0

# Time for which a run repeats its timed call.
SECONDS = 0.5

# Of `quickstart`: as many rounds as give an interval, and as short as is enough for its small networks.
QUICKSTART_ROUNDS = 6
QUICKSTART_SECONDS = 0.2

# Test images that travel in a pack: with them an accuracy is known to 2 points.
PACK_IMAGES = 1000

# A worker without progress for this long counts as hung.
TIMEOUT_S = 600.0

# Within an epoch. An interruption loses at most this much training.
CHECKPOINT_EVERY_S = 600.0

# Of a teacher's answers, as in Tian et al. 2020, "Contrastive representation distillation", section 4.
TEMPERATURE = 4.0
TEACHER_WEIGHT = 0.9
# Above it rounding errors of float32 dominate the divergence, which is multiplied by the squared temperature.
HIGHEST_TEMPERATURE = 100.0

# What is taken where none is named.
DATASET = "cifar10"
RECIPE = "original"
DEVICE = "cpu"
