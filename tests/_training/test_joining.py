"""How a process finds the others of its fit."""

import pytest
import torch

from skxmc._training import joining

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="needs torch.distributed"
)


GROUP = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}


@pytest.fixture
def set_variables(monkeypatch):
    """Set the variables of a group, and no others of them."""

    def initialize(*_, **__):
        raise AssertionError("joined")

    def set_them(variables):
        for name in (*joining.VARIABLES, "MASTER_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    monkeypatch.setattr(torch.distributed, "rendezvous", initialize)
    return set_them


@pytest.mark.parametrize(
    ("variables", "is_worker"),
    [
        ({}, False),
        ({**GROUP, "WORLD_SIZE": "1"}, False),
        (GROUP, True),
    ],
)
def test_process_without_peers_does_not_join(monkeypatch, set_variables, variables, is_worker):
    set_variables(variables)
    parent = object() if is_worker else None
    monkeypatch.setattr(joining.multiprocessing, "parent_process", lambda: parent)
    assert not joining.has_peers()


def test_process_without_master_port_raises(set_variables):
    set_variables(GROUP)
    with pytest.raises(ValueError, match=r"MASTER_PORT is not\. Set it to a free"):
        joining.has_peers()


def test_process_device_auto_is_gpu_of_local_rank(monkeypatch):
    chosen = []
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    assert str(joining.process_device("auto")) == "cuda:1"
    assert str(joining.process_device("cuda:3")) == "cuda:3"
    assert str(joining.process_device("cpu")) == "cpu"
    assert chosen == [1]


def test_process_device_mps_raises(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match='device="mps" does not work in several processes'):
        joining.process_device("mps")
