"""Kernels: what they may be called with, on how many threads, and what happens without a compiler."""

import logging
import subprocess

import pytest
import torch

from pyrozoo.compiler import build as build_module
from pyrozoo.compiler.kernels import Kernels, switched, threads

SOURCE = """
typedef struct { const REAL *x; REAL *sum; long n; } NAME(given);
static void NAME(block)(zoo_work *work, long block, long thread) {
  const NAME(given) *g = work->given;
  REAL sum = 0;
  for (long i = block * 100; i < MIN(g->n, block * 100 + 100); i++) sum += EXP(g->x[i]);
  zoo_turn(work, block);
  *g->sum += sum;
  zoo_done(work);
  (void)thread;
}
void NAME(total)(const REAL *x, REAL *sum, long n, double factor, const long *more, long threads) {
  NAME(given) given = {x, sum, n};
  zoo_run(NAME(block), &given, (n + 99) / 100, threads);
  *sum *= factor * (more ? *more : 1);
}
"""
X = torch.randn(100_000, dtype=torch.float64)


@pytest.fixture
def kernels(tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(build_module, "cache_folder", lambda: tmp_path_factory.getbasetemp() / "compiled")
    (tmp_path / "total.c").write_text(SOURCE)
    return Kernels(str(tmp_path / "total.py"))


def total(kernels, x, number=1, more=None):
    result = x.new_zeros(())
    kernels("total", x.dtype, x, result, len(x), 2.0, more, number)
    return result


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_blocks_are_added_in_turn_whatever_the_threads(kernels, dtype, tolerance):
    x = X.to(dtype)
    assert kernels.serve(x)
    one = total(kernels, x)
    torch.testing.assert_close(one, 2 * x.exp().sum(), rtol=tolerance, atol=0)
    for _ in range(5):
        assert all(total(kernels, x, number).equal(one) for number in (2, 3, 8))
    assert threads() == torch.get_num_threads()


def test_whole_numbers_and_nothing_are_passed_as_pointers(kernels):
    assert kernels.serve(X)
    assert total(kernels, X[:50], more=torch.tensor([3])).equal(3 * total(kernels, X[:50]))


def test_no_kernel_takes_a_tensor_of_another_kind(kernels):
    assert kernels.serve(X)
    for wrong in (X.float(), X[::2], torch.randn(10, dtype=torch.complex128)):
        with pytest.raises(TypeError, match="cannot take a tensor"):
            kernels("total", torch.float64, wrong, X[0].clone(), 5, 2.0, None, 1)


def test_where_gradients_are_wanted_or_operations_recorded_no_kernel_serves(kernels):
    leaf = X.clone().requires_grad_(True)
    assert not kernels.serve(leaf)
    assert not kernels.serve(X, leaf)
    assert not kernels.serve(X, X.float())
    assert not kernels.serve(X.half())
    assert not kernels.serve(X.to("meta"))
    with torch.no_grad():
        assert kernels.serve(leaf)
    with torch.utils._python_dispatch.TorchDispatchMode():
        assert not kernels.serve(X)
    assert torch.func.vmap(lambda x: x + kernels.serve(x))(X[:, None]).equal(X[:, None])
    with switched(False):
        assert not kernels.serve(X)
    assert kernels.serve(X)


def test_no_compiler_is_said_once_and_pytorch_serves(kernels, monkeypatch, caplog):
    monkeypatch.setattr(build_module.shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert not kernels.serve(X)
        assert not kernels.serve(X)
    (record,) = caplog.records
    assert record.getMessage().startswith("total.c runs as PyTorch code, which is slower: there is no C compiler here")


def test_source_is_compiled_once(kernels, monkeypatch, tmp_path):
    monkeypatch.setattr(build_module, "cache_folder", lambda: tmp_path)
    calls, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    assert kernels.serve(X)
    assert Kernels(str(tmp_path / "total.py")).serve(X)
    assert len(calls) == 1
