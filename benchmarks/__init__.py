"""How fast and how large Onitu is, beside the tools that it is compared with: `python -m benchmarks --help`.

No test fails on a time: the figures are of this machine at this moment, and only ratios within one run count.

- `python -m benchmarks` (`nox -s bench`): the table of `docs/explanation/performance.md`, from `peers` and `live`
- `benchmarks.many`, `services`, `bucket`, `durability`, `latency`, `scale`: one subject each, told in their first lines
- `benchmarks.micro` (`nox -s micro`): the hot paths one by one
"""
