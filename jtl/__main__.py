"""``python -m jtl``."""

from jtl.shell.cli import console

if __name__ == "__main__":
    console()
