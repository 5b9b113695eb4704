"""``python -m pyrozoo``: the command."""

from pyrozoo.command.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
