"""The command `lorabench`, and `python -m lorabench`."""

from __future__ import annotations


def main() -> None:
    """The entry point. Ctrl-C is answered from here on, while the rest of the program is still being imported."""
    try:
        from lorabench import cli

        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
