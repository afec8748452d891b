"""``python -m partc``."""

from partc.cli.main import main

if __name__ == "__main__":
    main()
