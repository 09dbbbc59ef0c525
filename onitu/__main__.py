"""`onitu`, and `python -m onitu`: what a person types."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    try:
        from onitu.cli.main import cli

        cli(prog_name="onitu")
    except KeyboardInterrupt:  # while the program is still being loaded: no traceback for an impatient user
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
