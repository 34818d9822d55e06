"""What is assumed where nothing is said, on the command line and in Python. Importing it costs nothing."""

ROUNDS = 7

# That a timed block lasts.
SECONDS = 0.5

# Without a new line of progress for so long, a worker hangs.
TIMEOUT_S = 600.0

# Within an epoch, beside the state after each: what an interruption may cost at most.
CHECKPOINT_EVERY_S = 600.0
