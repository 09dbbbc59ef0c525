"""Deliberate bugs, and the proof that the tests see each of them: `python -m tests.bugs`, or `nox -s bugs`."""
