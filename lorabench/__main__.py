"""`python -m lorabench`: the same as the command `lorabench`."""

from lorabench.cli import main

main()
