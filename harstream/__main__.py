"""``python -m harstream``."""

from harstream.cli import main

if __name__ == "__main__":
    main()
