"""Every loss with its oracle and inputs: what the conformance tests run over."""

from families import (
    adversarial,
    classification,
    consistency,
    discrepancy,
    norms,
    regularization,
    structure,
    transport,
)
from families.common import Case

FAMILIES = (
    classification,
    adversarial,
    discrepancy,
    transport,
    structure,
    consistency,
    norms,
    regularization,
)
CASES: dict[str, Case] = {name: case for family in FAMILIES for name, case in family.CASES.items()}
