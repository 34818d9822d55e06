"""What the rest stands on: values, files, processes. Knows no stage and no choice; imports numpy and the stdlib."""

import logging

# Whoever wants the log configures it, as the command line does; nobody gets it on the screen unasked.
logging.getLogger("cifar_deploy").addHandler(logging.NullHandler())
