"""`python -m sdprep` is the `sdprep` command."""

from sdprep.cli.main import main

if __name__ == "__main__":
    main()
