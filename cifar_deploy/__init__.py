"""Train, export and measure image classifiers, and say which to ship on a device."""

import logging

__version__ = "0.1.0"

# Whoever wants the log configures it, as the command line does; nobody gets it on the screen unasked.
logging.getLogger(__name__).addHandler(logging.NullHandler())
