"""The entry point of `shoal`: its commands take seconds to import, and Ctrl-C ends it as quietly then as later."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from cluster.cli import main as run  # late: see above

        run()
    except KeyboardInterrupt:
        sys.exit(130)
