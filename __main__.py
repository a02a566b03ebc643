"""`python -m coordsim`: the same command as `coordsim`."""

import sys

if __name__ == "__main__":
    from .cli import main

    sys.exit(main())
