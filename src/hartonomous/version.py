"""The version of this program; the same as in the distribution's metadata, and a test says so."""

__version__ = "0.1.0"
