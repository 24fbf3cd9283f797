"""Prints what jtl and well-known implementations say of the same input: tables of two pages.

python tools/compare_losses.py            # prints them
python tools/compare_losses.py --write    # puts them into the pages, between their markers

The pages are docs/losses.md and docs/transferability.md.

A table stands between two lines::

    <!-- compare: mmd -->
    <!-- end -->
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from peers import adversarial, discrepancy, fine_tuning, predictions, scores, transport

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = (DOCS / "losses.md", DOCS / "transferability.md")
PLACE = re.compile(r"(<!-- compare: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

TABLES: Mapping[str, Callable[[], str]] = {
    "mdd": adversarial.mdd_table,
    "cdan": adversarial.cdan_table,
    "penalty": adversarial.penalty_table,
    "mmd": discrepancy.mmd_table,
    "coral": discrepancy.coral_table,
    "transport": transport.transport_table,
    "mcc": predictions.mcc_table,
    "bnm": predictions.bnm_table,
    "vat": predictions.vat_table,
    "hafn": fine_tuning.hafn_table,
    "distillation": fine_tuning.distillation_table,
    "delta": fine_tuning.delta_table,
    "logme": scores.logme_table,
    "h_score": scores.h_score_table,
    "transrate": scores.transrate_table,
    "gbc": scores.gbc_table,
}


def fill(text: str) -> str:
    """A page with its tables made anew.

    Raises:
      KeyError: a marker names no table.
    """
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[4]}", text)


def main(arguments: list[str]) -> None:
    """Prints all tables, or writes them into the pages."""
    if arguments == ["--write"]:
        for page in PAGES:
            page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, table in TABLES.items():
        print(f"{name}\n\n{table()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
