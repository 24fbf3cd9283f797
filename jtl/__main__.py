"""``python -m jtl``."""

from jtl.cli import console

if __name__ == "__main__":
    console()
