"""Devices of several processes, in the order in which they read a batch."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jtl.devices import sharding
from jtl.errors import UserError


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch):
    """Devices of these processes, in the order in which jax would put them."""

    def there(*order: int) -> list[SimpleNamespace]:
        made = [SimpleNamespace(process_index=rank, id=index) for index, rank in enumerate(order)]
        mesh = SimpleNamespace(devices=np.array(made))
        monkeypatch.setattr(jax, "make_mesh", lambda *_, **__: mesh)
        monkeypatch.setattr(jax, "device_count", lambda: len(made))
        monkeypatch.setattr(sharding, "Mesh", lambda chosen, *_, **__: chosen)
        return made

    return there


def test_devices_of_a_process_are_side_by_side(processes) -> None:
    """On a torus of TPUs, jax goes along its axes and not from machine to machine."""
    made = processes(1, 1, 0, 0, 1, 1, 0, 0)
    assert sharding.mesh().tolist() == [made[index] for index in (2, 3, 6, 7, 0, 1, 4, 5)]
    assert sharding.mesh(3).tolist() == [made[index] for index in (2, 3, 6, 0, 1, 4)]


def test_processes_must_have_equally_many_devices(processes) -> None:
    processes(0, 0, 0, 1, 1)
    with pytest.raises(UserError, match="processes have 2 to 3 devices, and each must have as m"):
        sharding.mesh()
    with pytest.raises(UserError, match="devices is 3, and there are 2"):
        sharding.mesh(3)
    assert [device.id for device in sharding.mesh(2)] == [0, 1, 3, 4]
