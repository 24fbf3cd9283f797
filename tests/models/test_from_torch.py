"""What is said where PyTorch is not installed; the rest is in tests/parity."""

import sys

import numpy as np
import pytest

import jtl
from jtl.errors import UserError


@pytest.mark.parametrize("missing", ["torch", "torchax"])
def test_a_missing_extra_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", np)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"from_torch: {missing} .* pip install 'jtl\[torch\]'"):
        jtl.from_torch(object(), np.zeros((1, 3)))


def test_there_is_nothing_else_of_that_kind() -> None:
    with pytest.raises(AttributeError, match="no attribute 'from_tensorflow'"):
        _ = jtl.from_tensorflow
