"""``python -m skxmc``."""

import sys

from skxmc._command_line import main

if __name__ == "__main__":
    sys.exit(main())
