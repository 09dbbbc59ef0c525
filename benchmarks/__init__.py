"""How fast and how large Onitu is, beside `cp -a` and `rsync -a`: `python -m benchmarks --help`, or `nox -s bench`.

No test fails on a time: the figures are of this machine at this moment, and only ratios within one run count.
"""
