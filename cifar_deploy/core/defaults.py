"""What is assumed where nothing is said, on the command line and in Python. Importing it costs nothing."""

ROUNDS = 7

# Within an epoch, beside the state after each: what an interruption may cost at most.
CHECKPOINT_EVERY_S = 600.0
