"""`onitu`, and `python -m onitu`: what a person types."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from onitu.cli.main import cli

    cli(prog_name="onitu")


if __name__ == "__main__":
    main()
