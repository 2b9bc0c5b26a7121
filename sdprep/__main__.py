"""`python -m sdprep` is the `sdprep` command."""

import sys


def main() -> None:
    """Run the `sdprep` command; Ctrl-C while its modules are imported leaves no traceback."""
    try:
        from sdprep.cli.main import main as command
    except KeyboardInterrupt:
        sys.stderr.write("sdprep: interrupted\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
