"""Train, export and measure image classifiers, and say which to ship on a device."""

__version__ = "0.1.0"
