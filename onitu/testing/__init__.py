"""Correctness testing: of Onitu, and with it of other synchronisers and drivers."""
