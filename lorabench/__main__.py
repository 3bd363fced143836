"""The command `lorabench`, and `python -m lorabench`."""

from __future__ import annotations

import os


def main() -> None:
    """The entry point. Ctrl-C is answered from here on, while the rest of the program is still being imported."""
    # Read once, when torch is imported: threads that wait for each other by spinning are many times slower than one
    # where another program has a core (tests/benchmarks/busy.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from lorabench import cli

        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
