"""The compiler: every translated operation against PyTorch, on shapes and layouts that try its loops."""

import ctypes
import math
import subprocess

import pyro.distributions as dist
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyrozoo.compiler import build as build_module
from pyrozoo.compiler.density import CompiledDensity, Memory
from pyrozoo.compiler.source import schedule
from pyrozoo.compiler.tape import Untraceable, record
from pyrozoo.core.seeds import seeded

aten = torch.ops.aten
KEPT = torch.linspace(0.3, 2.1, 24, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    # One folder for all of these tests: sources that are the same are compiled once, and nobody's cache is touched.
    monkeypatch.setattr(build_module, "cache_folder", lambda: tmp_path_factory.getbasetemp() / "compiled")


def agree(function, size=24, shift=0.0, dtype=torch.float64, rtol=1e-12, overflows=False):
    """Hold value and gradient to PyTorch's where it was recorded and elsewhere.

    With ``overflows``, where PyTorch's gradient is not finite ours must not be, and nothing more: samplers turn back.
    """
    with seeded(0):
        points = [torch.randn(size, dtype=dtype) * scale + shift for scale in (0.5, 1.0, 0.1)]
    density = CompiledDensity(function, points[0])
    for point in (*points, points[0]):  # the last one again: a call leaves nothing behind
        leaf = point.clone().requires_grad_(True)
        value = function(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        found, found_gradient = density(point)
        value, gradient = value.detach(), gradient.detach()
        if overflows and not gradient.isfinite().all():
            assert not found_gradient.isfinite().all()
            continue
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), value.double(), rtol=rtol, atol=rtol)
        torch.testing.assert_close(found_gradient, gradient.double(), rtol=rtol, atol=rtol)
    return density


SMOOTH = {
    "exp": torch.exp, "expm1": torch.expm1, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "sin": torch.sin,
    "cos": torch.cos, "atan": torch.atan, "erf": torch.erf, "erfc": torch.erfc,
    "softplus": torch.nn.functional.softplus,
    "logsigmoid": torch.nn.functional.logsigmoid, "sinh": torch.sinh, "cosh": torch.cosh, "square": torch.square,
    "exp2": torch.exp2, "cube": lambda x: x**3, "fourth": lambda x: x**4, "power": lambda x: (1 + x * x) ** 1.7,
    "abs": torch.abs, "relu": torch.relu, "sign": lambda x: x.sign() * x, "neg": torch.neg,
    "round": lambda x: x.round() * x,
    "base": lambda x: 1.7**x, "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3),
}  # fmt: skip
POSITIVE = {
    "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal,
    "lgamma": torch.lgamma, "log2": torch.log2, "log10": torch.log10, "xlogy": lambda x: torch.xlogy(x, x),
    "power": lambda x: x.pow(x), "inverse_square": lambda x: x**-2, "atan2": lambda x: torch.atan2(x, x + 1),
    "digamma": lambda x: x * torch.digamma(x.detach()), "addcdiv": lambda x: torch.addcdiv(x, x, x + 1, value=0.3),
    "logaddexp": lambda x: torch.logaddexp(x, 2 * x), "tan": lambda x: torch.tan(x / 9),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_functions(name):
    agree(lambda x: (SMOOTH[name](x) * KEPT).sum())


@pytest.mark.parametrize("name", POSITIVE)
def test_functions_of_positive_numbers(name):
    agree(lambda x: (POSITIVE[name](x.exp() * 3) * KEPT).sum())


@pytest.mark.parametrize("x", [1e-12, 0.003, 0.5, 1.0, 1.5, 2.0, 7.9, 8.0, 8.1, 300.0, 1e7, -0.5, -3.7, -20.2])
def test_log_gamma_and_its_derivative(x):
    density = CompiledDensity(lambda v: torch.lgamma(v).sum(), torch.tensor([1.3], dtype=torch.float64))
    value, slope = density(torch.tensor([x], dtype=torch.float64))
    point = torch.tensor(x, dtype=torch.float64)
    # Near its roots at 1 and 2 the value is a difference of numbers near 16.
    torch.testing.assert_close(value, float(torch.lgamma(point)), rtol=1e-13, atol=3e-14)
    torch.testing.assert_close(float(slope), float(torch.digamma(point)), rtol=1e-12, atol=1e-13)


WHOLE = torch.arange(24) % 4
SHAPES = {
    "rows": lambda x: (x.view(4, 6).sum(0).exp() * KEPT[:6]).sum(),
    "columns": lambda x: (x.view(4, 6).sum(1, keepdim=True) * x.view(4, 6)).logsumexp(1).sum(),
    "middle": lambda x: (x.view(2, 3, 4).logsumexp(1) * KEPT[:8].view(2, 4)).sum(),
    "all_but_one": lambda x: x.view(2, 3, 4).exp().sum((0, 2)).log().sum(),
    "softmax": lambda x: (x.view(4, 6).softmax(-1) * KEPT.view(4, 6)).sum(),
    "log_softmax": lambda x: (x.view(4, 6).log_softmax(0) * KEPT.view(4, 6)).sum(),
    "mean_var": lambda x: x.view(4, 6).mean(0).square().sum() + x.var(),
    "prod": lambda x: x.view(4, 6).exp().prod(1).sum(),
    "amax": lambda x: (x.view(4, 6).amax(1) * KEPT[:4]).sum(),
    "amin": lambda x: (x.view(4, 6).amin(0) * KEPT[:6]).sum(),
    "max": lambda x: (x.view(4, 6).max(1)[0] * KEPT[:4]).sum() + x.max(),
    "min": lambda x: (x.view(4, 6).min(0, keepdim=True)[0] * KEPT[:6]).sum() + x.min(),
    "argmax": lambda x: (x.view(4, 6).argmax(1) * x[:4]).sum(),
    "transposed": lambda x: (x.view(4, 6).t().contiguous().view(3, 8).exp() * KEPT.view(3, 8)).sum(),
    "permuted": lambda x: (x.view(2, 3, 4).permute(2, 0, 1).exp() * x[0] * KEPT.view(4, 2, 3)).sum(),
    "expanded": lambda x: (x[:4, None] + x[None, :6]).exp().sum(),
    "sliced": lambda x: (x[1:20:3] * x[:7]).sum() + x[-1] * x[::5].sum(),
    "selected": lambda x: x.view(4, 6)[2, 1:5].exp().sum() * x.view(4, 6)[:, 3].sum(),
    "flipped": lambda x: (x.flip(0) * x.cumsum(0) * KEPT).sum(),
    "cumprod": lambda x: (x.view(4, 6).sigmoid().cumprod(1) * KEPT.view(4, 6)).sum(),
    "cumsum_first": lambda x: (x.view(4, 6).cumsum(0).exp() * KEPT.view(4, 6)).sum(),
    "cat": lambda x: (torch.cat([x[:5], x[10:] * 2, KEPT[:3]]).exp()).sum(),
    "stack": lambda x: (torch.stack([x[:6], x[6:12] ** 2], 1).exp() * KEPT[:12].view(6, 2)).sum(),
    "padded": lambda x: (torch.nn.functional.pad(x.view(4, 6), (1, 2, 0, 1), value=0.5).exp()).sum(),
    "cut": lambda x: torch.nn.functional.pad(x.view(4, 6), (-1, 2)).exp().sum(),
    "indexed": lambda x: (x[WHOLE].exp() * KEPT).sum(),
    "indexed_twice": lambda x: (x.view(4, 6)[WHOLE, WHOLE + 1].exp() * KEPT).sum(),
    "indexed_apart": lambda x: (x.view(2, 3, 4)[WHOLE[:5] % 2, :, WHOLE[:5]].exp()).sum(),
    "indexed_middle": lambda x: (x.view(2, 3, 4)[:, WHOLE[:5] % 3].exp()).sum(),
    "negative_index": lambda x: x[torch.tensor([-1, 0, -3])].exp().sum(),
    "gathered": lambda x: x.view(4, 6).gather(1, WHOLE.view(4, 6)).exp().sum(),
    "scattered": lambda x: torch.zeros(4, 6, dtype=x.dtype).scatter_add(1, WHOLE.view(4, 6), x.view(4, 6)).exp().sum(),
    "index_add": lambda x: (torch.zeros(4, dtype=x.dtype).index_add(0, WHOLE, x.exp()) ** 2).sum(),
    "index_select": lambda x: x.view(4, 6).index_select(1, WHOLE[:7]).exp().sum(),
    "in_place": lambda x: _in_place(x),
    "overwritten": lambda x: _overwritten(x),
    "index_put": lambda x: (torch.ones(4, dtype=x.dtype).index_put((WHOLE,), x.exp(), accumulate=True) ** 2).sum(),
    "where": lambda x: torch.where(x > 0.1, x.exp(), torch.where(x < -0.5, x, x * x)).sum(),
    "masked": lambda x: x.masked_fill(x > 0.4, 2.0).square().sum(),
    "clamped": lambda x: (x.clamp(-0.2, 0.3) * KEPT).sum() + x.clamp(min=0.1).sum() + x.clamp(max=-0.1).square().sum(),
    "extremes": lambda x: torch.maximum(x, x.flip(0)).sum() + torch.minimum(x[:12], x[12:]).exp().sum(),
    "logic": lambda x: (((x > 0) & ~(x > 1)) | (x < -1) ^ (x != x)).to(x.dtype).mul(x).sum(),
    "triangles": lambda x: (x.view(4, 6).tril(1) @ x.view(6, 4).triu(-1)).sum(),
    "diagonal": lambda x: torch.diag_embed(x[:4].exp()).logsumexp(1).sum() + x.view(4, 6).diagonal(1).exp().sum(),
    "mm": lambda x: (x[:12].view(3, 4) @ x[12:].view(4, 3)).exp().sum(),
    "bmm": lambda x: (x[:12].view(2, 3, 2) @ x[12:].view(2, 2, 3)).exp().sum(),
    "wide_mm": lambda x: (x[:2, None] @ x[None, :20]).sin().sum() + (x.view(4, 6) @ x.view(4, 6).mT).sum(),
    "mv": lambda x: (x.view(4, 6) @ x[:6]).exp().sum() + torch.dot(x, KEPT),
    "addmm": lambda x: torch.addmm(x[:9].view(3, 3), x[:12].view(3, 4), x[12:].view(4, 3), beta=0.5, alpha=2).sum(),
    "einsum": lambda x: torch.einsum("ij,kj,k->i", x.view(4, 6), x.view(4, 6), x[:4]).sum(),
    "empty": lambda x: x[:0].sum() + x.square().sum(),
    "scalars": lambda x: x[0] * x[1] + x[2] / (1 + x[3] ** 2) - 3.0,
    "integers": lambda x: (x * torch.arange(24)).sum() + (x * torch.arange(24).remainder(3).eq(0)).sum(),
    "alpha": lambda x: torch.add(x, x.exp(), alpha=0.3).sum() + torch.sub(3.0, x).sum(),
    "bytes": lambda x: (x * torch.arange(24, dtype=torch.uint8)).sum(),
}  # fmt: skip


def _in_place(x):
    whole = torch.zeros(4, 6, dtype=x.dtype)
    whole[1:3] = x[:12].view(2, 6).exp()
    whole[:, 0] += x[:4]
    return (whole * whole).sum() + whole.mul(2).clamp_(min=0.5).sum()


def _overwritten(x):
    """Read a small piece of memory in a large loop, then write it: small loops come first where they may."""
    part = x[:3].detach().exp()
    large = part[:, None] + x.view(3, 8)
    part.mul_(5.0)
    return large.sin().sum() + (part * x[:3]).sum()


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    agree(SHAPES[name])


def positive_definite(x, n):
    matrix = x[: n * n].view(n, n)
    return matrix @ matrix.mT + n * torch.eye(n, dtype=x.dtype)


LINEAR = {
    "cholesky": lambda x: torch.linalg.cholesky(positive_definite(x, 4)).exp().sum(),
    "upper": lambda x: torch.linalg.cholesky(positive_definite(x, 3), upper=True).square().sum() + x.sum(),
    "batch": lambda x: torch.linalg.cholesky(
        torch.stack([positive_definite(x, 3), positive_definite(x[9:], 3)])
    ).diagonal(dim1=-2, dim2=-1).log().sum() + x.sum(),
    "solve": lambda x: torch.linalg.solve_triangular(
        torch.linalg.cholesky(positive_definite(x, 4)), x[:8].view(4, 2), upper=False
    ).square().sum(),
    "solve_right": lambda x: torch.linalg.solve_triangular(
        torch.linalg.cholesky(positive_definite(x, 4)).mT, x[:8].view(2, 4), upper=True, left=False
    ).square().sum(),
    "cholesky_solve": lambda x: torch.cholesky_solve(
        x[16:20].view(4, 1), torch.linalg.cholesky(positive_definite(x, 4))
    ).square().sum(),
    "normal": lambda x: dist.MultivariateNormal(
        x[20:].exp(), scale_tril=torch.linalg.cholesky(positive_definite(x, 4)), validate_args=False
    ).log_prob(KEPT.view(6, 4)).sum(),
    "low_rank": lambda x: dist.LowRankMultivariateNormal(
        x[:4], x[4:12].view(4, 2), x[12:16].exp(), validate_args=False
    ).log_prob(KEPT.view(6, 4)).sum() + x.square().sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_linear_algebra(name):
    agree(LINEAR[name], rtol=1e-10)


DISTRIBUTIONS = {
    "Normal": lambda x: dist.Normal(x[0], x[1].exp()).log_prob(KEPT),
    "StudentT": lambda x: dist.StudentT(x[0].exp() + 1, x[1], x[2].exp()).log_prob(KEPT),
    "Gamma": lambda x: dist.Gamma(x[0].exp(), x[1].exp()).log_prob(KEPT),
    "InverseGamma": lambda x: dist.InverseGamma(x[0].exp(), x[1].exp()).log_prob(KEPT),
    "Beta": lambda x: dist.Beta(x[0].exp(), x[1].exp()).log_prob(KEPT / 3),
    "Dirichlet": lambda x: dist.Dirichlet(x[:4].exp()).log_prob(KEPT.view(6, 4).softmax(-1)),
    "Poisson": lambda x: dist.Poisson(x.exp()).log_prob(KEPT.round()),
    "NegativeBinomial": lambda x: dist.NegativeBinomial(x[0].exp(), logits=x).log_prob(KEPT.round()),
    "ZeroInflatedPoisson": lambda x: dist.ZeroInflatedPoisson(x.exp(), gate=x.sigmoid()).log_prob(WHOLE.double()),
    "Bernoulli": lambda x: dist.Bernoulli(logits=x).log_prob((KEPT > 1).to(x.dtype)),
    "Categorical": lambda x: dist.Categorical(logits=x.view(4, 6)).log_prob(torch.arange(4)),
    "HalfCauchy": lambda x: dist.HalfCauchy(x.exp()).log_prob(KEPT),
    "LogNormal": lambda x: dist.LogNormal(x[0], x[1].exp()).log_prob(KEPT),
    "Laplace": lambda x: dist.Laplace(x, x.exp()).log_prob(KEPT),
    "Binomial": lambda x: dist.Binomial(5, logits=x).log_prob(KEPT.round()),
    "Weibull": lambda x: dist.Weibull(x[0].exp(), x[1].exp()).log_prob(KEPT),
    "LKJ": lambda x: dist.LKJCholesky(3, x[0].exp()).log_prob(
        torch.distributions.biject_to(torch.distributions.constraints.corr_cholesky)(x[1:4])
    ),
    "MultivariateStudentT": lambda x: dist.MultivariateStudentT(
        x[0].exp() + 2, x[:3], torch.diag_embed(x[3:6].exp())
    ).log_prob(KEPT[:3]),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributions.Distribution, "_validate_args", False)
        agree(lambda x: DISTRIBUTIONS[name](x).sum() + x.sum(), rtol=1e-11)


BLOCKS = [
    lambda x, y: (x.exp() + y).logsumexp(-1, keepdim=True) * x,
    lambda x, y: torch.where(x > y, x, y.tanh()) - x.mean(0),
    lambda x, y: (x @ y.mT).softmax(-1) @ x,
    lambda x, y: x.mT.contiguous().view(y.shape) * y.sigmoid(),
    lambda x, y: torch.cat([y[1:], x[:1]]).cumsum(0),
    lambda x, y: x[torch.arange(len(x)).flip(0)] * y[:, :1],
    lambda x, y: x.amax(1, keepdim=True) - y.clamp(min=-0.3).square(),
    lambda x, y: x.masked_fill(y > 0, 0.5).add_(y),
]


@settings(max_examples=12)
@given(
    rows=st.integers(1, 5), columns=st.integers(1, 40),
    picked=st.lists(st.tuples(st.integers(0, len(BLOCKS) - 1), st.integers(0, 9)), min_size=1, max_size=6),
)  # fmt: skip
# exp of exp of exp overflows, and a gradient of zero times infinity is NaN in PyTorch, too.
@example(rows=1, columns=18, picked=[(0, 3), (0, 1), (0, 4)])
@example(rows=5, columns=17, picked=[(0, 0), (2, 9), (0, 5), (0, 1), (2, 7), (6, 2)])
def test_programs_made_at_random(rows, columns, picked):
    def function(x):
        known = [x.view(rows, columns), x.view(rows, columns).sin()]
        for which, other in picked:
            known.append(BLOCKS[which](known[-1], known[other % len(known)]))
        return known[-1].tanh().sum() + x.square().sum()

    agree(function, size=rows * columns, rtol=1e-9, overflows=True)


@pytest.mark.parametrize("rows", [40, 300])
def test_short_rows_are_laid_out_anew(rows):
    other = torch.linspace(0, 1, 3 * rows, dtype=torch.float64).view(rows, 3)

    def function(x):
        whole = x.view(2, rows, 3)
        part = (whole.exp() * other + whole.flip(1)[:, :, [2, 0, 1]]).transpose(0, 2)
        part = part.cumsum(1) + part.mean(1, keepdim=True) + part[:, 1:3].sum() + whole.diagonal(0, 0, 2).sum()
        return part.reshape(3, -1).logsumexp(1).sum() + (part.contiguous().view(-1, 2) ** 2).sum()

    agree(function, size=6 * rows, rtol=1e-11)


def test_float32():
    agree(lambda x: (x.view(4, 6).exp() @ x.view(6, 4).sigmoid()).log().sum(), dtype=torch.float32, rtol=3e-5)


def test_nothing_that_overflows_is_taken_for_a_number():
    density = CompiledDensity(
        lambda x: (x.exp() - x.exp()).sum() - x.square().sum(), torch.zeros(3, dtype=torch.float64)
    )
    value, gradient = density(torch.full((3,), 1000.0, dtype=torch.float64))
    assert math.isnan(value)
    assert gradient.isnan().all()
    gradient = torch.zeros(3, dtype=torch.float64)
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ulong, *[ctypes.c_void_p] * 4)(density.address)
    memory, value = Memory(density), ctypes.c_double()
    far, near = torch.full((3,), 1000.0, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for point, bad in ((far, 1), (near, 0)):
        arguments = point.data_ptr(), gradient.data_ptr(), ctypes.addressof(value), memory.struct.ctypes.data
        assert function(3, *arguments) == bad


def branching(x):
    return x.sum() if x[0] > 0 else x.square().sum()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branching, "depends on values"),
        (lambda x: (x * x[x > 0].sum()).sum(), "depend"),
        (lambda x: (x * torch.randn(24, dtype=x.dtype)).sum(), "random"),
        (lambda x: torch.linalg.eigvalsh(positive_definite(x, 3)).sum(), "no translation"),
        (lambda x: torch.view_as_complex(x.view(12, 2)).abs().sum(), "no translation"),
    ],
    ids=["branch", "mask", "random", "eigenvalues", "complex"],
)
def test_what_cannot_be_compiled_says_why_in_one_line(function, reason):
    with pytest.raises(Untraceable, match=reason) as caught:
        CompiledDensity(function, torch.linspace(-1, 1, 24, dtype=torch.float64))
    assert "\n" not in str(caught.value)


def test_the_same_shapes_are_compiled_once(monkeypatch):
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    for scale in (1.0, 2.0, 3.0):
        weights = scale * torch.arange(7, dtype=torch.float64)
        density = CompiledDensity(lambda x, w=weights: -(w * x.cosh()).sum(), torch.zeros(7, dtype=torch.float64))
        assert density(torch.zeros(7, dtype=torch.float64))[0] == -scale * 21  # data are no part of the code
    assert len(calls) <= 1
    CompiledDensity(lambda x: -(x.cosh()).sum(), torch.zeros(8, dtype=torch.float64))
    assert len(calls) <= 2


def test_no_compiler_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(build_module.shutil, "which", lambda name: None)
    with pytest.raises(Untraceable, match="no C compiler"):
        CompiledDensity(lambda x: -(x.sinh() ** 2).sum(), torch.zeros(9, dtype=torch.float64))


def test_a_compiler_that_fails_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(build_module, "cache_folder", lambda: tmp_path)
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'density.c:1: error: no' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(Untraceable, match="does not compile it"):
        CompiledDensity(lambda x: -(x.sinh() ** 4).sum(), torch.zeros(9, dtype=torch.float64))


def test_without_vector_mathematics_the_plain_functions_serve(monkeypatch, tmp_path):
    monkeypatch.setattr(build_module, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(build_module, "VARIANTS", (["-lno_such_library"], build_module.VARIANTS[-1]))
    agree(lambda x: (x.exp().log1p() * KEPT).sum())


def test_loops_of_one_shape_are_one():
    from pyrozoo.compiler.lowering import TRANSLATED, Lowering

    tape = record(lambda x: (x.exp() * x.sin() + x).sum(), torch.zeros(50, dtype=torch.float64), TRANSLATED)
    lowering = Lowering(tape)
    assert len(lowering.steps) > 6
    assert len(schedule(lowering.steps)) <= 4
