"""``python -m partc.cli``."""

from partc.cli.main import main

main()
