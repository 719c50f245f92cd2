"""`python -m dreamorph`: the same as `kedro run` in the project folder."""

import sys

from kedro.framework.cli.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
