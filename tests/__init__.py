import os

# Of pytest's own terminal, in each process of its own. What the program prints in a process of the tests is as wide as a log.
os.environ.pop("COLUMNS", None)
