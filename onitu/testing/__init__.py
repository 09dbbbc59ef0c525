"""Correctness testing of synchronisers, for Onitu and for others: users who know what they replaced, and who judges."""
