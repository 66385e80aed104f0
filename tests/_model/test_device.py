"""Missing devices, the precision of a device, and seeds that leave generators unchanged."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skxmc._model import device as device_module
from skxmc._model.device import autocast, resolve_device, resolve_precision
from skxmc._model.seeds import local_seed

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cpu:", "cuda 1"])
def test_resolve_device_unknown_name_raises_value_error(device):
    with pytest.raises(
        ValueError, match=rf'device=\'{device}\' is not a device name\. Use "auto", "cpu"'
    ):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "cpu:1", "meta", "xpu"])
def test_resolve_device_missing_device_raises_value_error(no_gpu, device):
    message = (
        rf"device='{device}' is not available: this machine has 0 CUDA devices\. "
        r'Use device="auto" to choose an available device\.'
    )
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


def test_resolve_device_accepts_only_numbers_of_existing_gpus(two_gpus, monkeypatch):
    assert resolve_device("cuda") == torch.device("cuda", 1)  # the current one
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"device='cuda:2' is not available.* has 2 CUDA devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"has 1 CUDA device\."):
        resolve_device("cuda:1")


def test_resolve_device_auto_without_gpu_is_mps_or_cpu(no_gpu, monkeypatch):
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == torch.device("mps", 0)


def test_resolve_device_auto_with_gpus_is_current_gpu(two_gpus):
    assert resolve_device("auto") == torch.device("cuda", 1)


def test_resolve_precision_given_name_ignores_device():
    for device in (CPU, torch.device("cuda"), torch.device("mps")):
        assert resolve_precision("fp32", device) == torch.float32
        assert resolve_precision("bf16", device) == torch.bfloat16
        assert resolve_precision("fp16", device) == torch.float16


@pytest.mark.parametrize(
    ("fast", "capability", "expected"),
    [
        (True, (8, 0), torch.bfloat16),
        (False, (7, 5), torch.float16),
        (False, (7, 0), torch.float16),
        (False, (6, 1), torch.float32),  # no tensor cores
    ],
)
def test_resolve_precision_auto_is_what_device_computes_fast(
    monkeypatch, fast, capability, expected
):
    monkeypatch.setattr(device_module, "_cpu_has_bf16", lambda: fast)
    assert resolve_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    capabilities = {torch.device("cuda", 1): capability}
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.get)
    asked, current = {}, []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda **options: asked.update(options) or fast
    )
    monkeypatch.setattr(
        torch.cuda, "device", lambda device: contextlib.nullcontext(current.append(device))
    )
    assert resolve_precision("auto", torch.device("cuda", 1)) == expected
    assert asked == {"including_emulation": False}  # emulated is not fast
    assert current == [torch.device("cuda", 1)]  # this device, even if another is current
    assert resolve_precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "avx512_f", None])
def test_cpu_has_bf16_reads_capabilities_of_torch(monkeypatch, name):
    found = {"avx2": True, "amx_bf16": False, **({name: True} if name else {})}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert device_module._cpu_has_bf16() == (name not in ("avx512_f", None))


def test_cpu_has_bf16_before_torch_2_11_asks_mkldnn(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for supported in (True, False):
        mkldnn = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: supported)  # noqa: B023
        monkeypatch.setattr(torch.ops, "mkldnn", mkldnn)
        assert device_module._cpu_has_bf16() is supported


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_products_and_not_weights(dtype):
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, dtype):
        assert layer(torch.ones(1, 2)).dtype == dtype
        assert layer.weight.dtype == torch.float32
    assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_local_seed_fixes_draws_and_restores_generators():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with local_seed(3, CPU):
        first = torch.rand(4)
    with local_seed(3, CPU):
        assert torch.equal(torch.rand(4), first)
    with local_seed(4, CPU):
        assert not torch.equal(torch.rand(4), first)
    with pytest.raises(KeyError), local_seed(3, CPU):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_local_seed_failing_device_restores_generators(monkeypatch):
    before = torch.get_rng_state()

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.cuda, "get_rng_state", fail)
    with pytest.raises(RuntimeError), local_seed(3, torch.device("cuda", 0)):
        pass
    assert torch.equal(torch.get_rng_state(), before)
    with local_seed(3, CPU):
        pass
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_local_seed_on_cuda_fixes_draws_and_restores_generators():
    device = resolve_device("auto")
    assert device.type == "cuda"
    assert resolve_precision("auto", device) in (torch.bfloat16, torch.float16, torch.float32)
    before = torch.get_rng_state(), torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with local_seed(3, device):
            draws.append((torch.rand(4), torch.rand(4, device=device)))
    for a, b in zip(*draws, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(device), before[1])
