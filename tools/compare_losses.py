"""Prints what jtl and well-known implementations say of the same input: docs/losses.md's tables.

python tools/compare_losses.py            # prints them
python tools/compare_losses.py --write    # puts them into the page, between their markers

A table stands between two lines::

    <!-- compare: mmd -->
    <!-- end -->
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from peers import adversarial, discrepancy, transport

PAGE = Path(__file__).resolve().parents[1] / "docs" / "losses.md"
PLACE = re.compile(r"(<!-- compare: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

TABLES: Mapping[str, Callable[[], str]] = {
    "mdd": adversarial.mdd_table,
    "cdan": adversarial.cdan_table,
    "penalty": adversarial.penalty_table,
    "mmd": discrepancy.mmd_table,
    "coral": discrepancy.coral_table,
    "transport": transport.transport_table,
}


def fill(text: str) -> str:
    """The page with its tables made anew.

    Raises:
      KeyError: a marker names no table.
    """
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[4]}", text)


def main(arguments: list[str]) -> None:
    """Prints all tables, or writes them into the page."""
    if arguments == ["--write"]:
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, table in TABLES.items():
        print(f"{name}\n\n{table()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
