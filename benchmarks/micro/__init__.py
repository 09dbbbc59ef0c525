"""Micro-benchmarks of the hot paths: `nox -s micro`, or

    python -m pytest benchmarks/micro --benchmark-autosave --benchmark-compare

by pytest-benchmark, which keeps the setup outside of what is timed, has earlier runs to compare with, and asks nothing
more of a subject than a function. (pyperf runs each in many processes of its own, all of which would have to start a
server or two drivers.) What is measured is in `subjects`; a unit test runs each of them, so that none rots.
"""
