"""Triton kernels: when they are served, what is said where Triton does not run, and that they agree with their oracle.

On a card they run there; elsewhere Triton, where it is installed, interprets them on the CPU.
"""

import itertools
import os
from pathlib import Path

import pytest
import torch

from pyrozoo.compiler import cuda
from pyrozoo.compiler.cuda import CudaKernels, power_of_two
from pyrozoo.compiler.kernels import Kernels, switched

CARD = torch.cuda.is_available()
if not CARD:  # looked at when Triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytestmark = [pytest.mark.cuda] if CARD else []

bench = pytest.importorskip("benchmarks.cuda", reason="benchmarks are not part of the package")


@pytest.fixture
def device(monkeypatch):
    pytest.importorskip("triton")
    if CARD:
        yield "cuda"
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):  # its own takes numbers to have no axes, which NumPy no longer lets pass
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    monkeypatch.setattr(Kernels, "serve", lambda *_: False)
    cuda.unusable.cache_clear()
    yield "cpu"
    cuda.unusable.cache_clear()


def few(name, device, dtype):
    """Return a model's checks; of an interpreter's, those that take it no minute."""
    checks = bench.CHECKS[name](device, dtype)
    return checks if CARD else (each for each in itertools.islice(checks, 6) if "2000" not in each[0])


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
@pytest.mark.parametrize("name", sorted(bench.CHECKS))
def test_kernels_do_what_the_code_beside_them_does(name, dtype, most, device):
    torch.manual_seed(0)
    for what, function in few(name, device, dtype):
        with switched(False):
            oracle = function()
        first, again = function(), function()
        assert bench.difference(first, oracle) < most, what
        assert bench.difference(again, first) == 0, f"{what}: not the same twice"
    assert not cuda.unusable()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_allotments_are_multinomial(dtype, device):
    """Within 4.5 standard errors of its law, sums exactly kept, small counts and one that is drawn by halves."""
    torch.manual_seed(1)
    for what, errors in bench.allotment(device, dtype, 2000 if CARD else 50, 3):
        assert abs(errors) < 4.5, what


def test_other_tensors_are_not_served(tmp_path):
    kernels = CudaKernels(str(tmp_path / "likelihood.py"))
    assert kernels.path == tmp_path / "likelihood_cuda.py"
    assert not kernels.serve(torch.zeros(3))
    assert not kernels.serve(torch.zeros(3, dtype=torch.long))


def test_why_triton_does_not_run_is_said_once(tmp_path, monkeypatch, caplog):
    def broken(path: Path):
        raise ModuleNotFoundError("No module named 'triton'\nmore")

    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    monkeypatch.setattr(cuda, "_loaded", broken)
    cuda.unusable.cache_clear()
    kernels = CudaKernels(str(tmp_path / "likelihood.py"))
    assert not kernels.serve(torch.zeros(3))
    assert not kernels.serve(torch.zeros(3))
    assert [each.getMessage() for each in caplog.records] == [
        "likelihood_cuda runs as PyTorch code, which is slower on CUDA: ModuleNotFoundError: No module named 'triton'"
    ]
    cuda.unusable.cache_clear()


def test_the_least_power_of_two():
    assert [power_of_two(n) for n in (1, 2, 3, 17, 64)] == [1, 2, 4, 32, 64]
