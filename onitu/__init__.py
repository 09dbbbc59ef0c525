"""Onitu keeps folders the same on any number of services and never loses a value that a user wrote."""

__version__ = "0.1.0"
