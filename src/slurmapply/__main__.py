"""``python -m slurmapply``: the same as the command ``slurmapply``."""

from slurmapply.cli.program import main

if __name__ == "__main__":
    main()
