"""What CI runs, and what every developer runs: `nox`. `nox --list` says what there is."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "layers", "unit", "property", "integration", "docs"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, by ruff: rules and format."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("ruff", "format", "--check", *(session.posargs or ["."]))


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy in strict mode."""
    session.install("-e", ".[test]", "mypy>=1.13")
    session.run("mypy", *session.posargs)


@nox.session
def layers(session: nox.Session) -> None:
    """Imports point only downwards, by import-linter."""
    session.install("-e", ".", "import-linter>=2.1")
    session.run("lint-imports", "--no-cache", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """One module at a time, against real sockets, servers and file systems."""
    tests(session, "tests/unit")


@nox.session
def property(session: nox.Session) -> None:
    """The state machine, fuzzed."""
    tests(session, "tests/property")


@nox.session
def integration(session: nox.Session) -> None:
    """The whole: real processes on real directories."""
    tests(session, "tests/integration")


@nox.session
def conformance(session: nox.Session) -> None:
    """The drivers of services in the network on every server that can be had, with every fault. Not part of CI, which
    has one server for each and no faults: minutes for each."""
    tests(session, "tests/conformance")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    session.install("-e", ".[all,docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build/html", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure Onitu beside the tools that it is compared with (`-- --rows first,nothing` for some of it, `-- --write`
    to put it into the documentation). Not part of CI: no test fails on a time."""
    # Not editable: what finds the modules then takes a tenth of a run's start, which nobody has who installs Onitu.
    session.install(".[bench]")
    session.install("--force-reinstall", "--no-deps", ".")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def micro(session: nox.Session) -> None:
    """Time the hot paths one by one (`-- --benchmark-compare` for the run before). Not part of CI: no test fails on a
    time."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "pytest", "benchmarks/micro", "--benchmark-autosave", *session.posargs)


@nox.session
def bugs(session: nox.Session) -> None:
    """Put each bug of tests/bugs into a copy of the code: a test must fail. Not part of CI: it takes minutes."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.bugs", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Mutate the pure core and run the fast tests on each mutant; `nox -s mutation -- NAME*` for some of them.

    By mutmut, not by cosmic-ray: it knows which tests reach a function, runs only these, the fastest first, and forks
    a process that has them imported already, where cosmic-ray starts a pytest and runs everything for each mutant.
    Not part of CI: it takes most of an hour. What survives, and why, is told in tests/MUTATION.md.
    """
    session.install("-e", ".[test]", "mutmut>=3.8")
    session.run("mutmut", "run", *session.posargs, env={"ONITU_BUDGET": "0.02"})
    session.run("mutmut", "results")


@nox.session
def soak(session: nox.Session) -> None:
    """Attack for as long as asked (`-- --minutes 60`), each round with another seed; figures at the end."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", *session.posargs)


def tests(session: nox.Session, where: str) -> None:
    """Run pytest on a part of the tests, on every processor; or on what was asked for."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto", "--dist", "worksteal", where]))
