"""This version of the product."""

from importlib.metadata import version

VERSION = version("mess-ai")
