"""`python -m mess` is the `mess` command."""

from mess.cli import main

main()
