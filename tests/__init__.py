import os

# Some pytest sets it. Without it the output is as wide as in a log.
os.environ.pop("COLUMNS", None)
