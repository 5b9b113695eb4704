"""Every model and method on another device: the same answer from the same call.

The device is one that is not there (``tests.elsewhere``), where every number must be the CPU's and whatever mixes
devices fails; and, of tests marked ``cuda``, a card, whose random numbers are the CPU's here.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

import pyrozoo
from pyrozoo.compiler.captured import CapturedDensity, gradient_of, rehearse
from pyrozoo.compiler.host import Host
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.devices import LARGE, device_of, precision
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.inference.laplace import Laplace
from pyrozoo.inference.nuts import Nuts, eager
from pyrozoo.math.branches import without_branches
from pyrozoo.run import catalog
from tests.case import PAIRS, case
from tests.elsewhere import AWAY, Waits, a_device, alike
from tests.inference.test_inference import interrupt_at

pytestmark = pytest.mark.usefixtures("unchecked")

CARD = torch.device("cuda")
DEVICES = [AWAY, pytest.param(CARD, marks=pytest.mark.cuda)]
SHORT = {
    "sample": {"warmup": 3, "draws": 4},
    "nuts": {"warmup": 3, "draws": 4, "chains": 2},
    "svi": {"max_steps": 6, "restarts": 1, "draws": 5},
}
RANKS = ("rhat_max", "rhat_max_raw", "rhat_max_invariants", "ess_min", "ess_tail_min")
"""Figures of ranks: of equal draws, which rounding makes unequal, they may be any."""
ANSWERS = ("predict", "fill", "assign", "recommend")


@contextlib.contextmanager
def on(device, patch):
    """Run what is called on a device, and kernels nowhere."""
    patch.setattr("pyrozoo.run.fit.device_of", lambda *_: device)
    for engine in (Nuts, Laplace):
        patch.setattr(engine, "fewest_on_a_card", 0)
    with switched(False), a_device() if device == AWAY else alike():
        yield


def short(model, method, **changes):
    its = case(model, method)
    about = catalog.settings("inference", method)
    quick = {"draws": 5} if "draws" in about else {}
    quick |= SHORT.get(about["engine"], {"max_iterations": 4} if "max_iterations" in about else {})
    settings = {**its.settings[method], **quick, "dtype": "float64", "progress": False, **changes}
    return pyrozoo.fit(its.model, method, data=its.tiny, **settings)


def same(one, other, device, what="", method=""):
    """Hold two results to one another: bit for bit, or on a card, whose sums round otherwise, nearly.

    Laplace's method takes second derivatives at a point that is the CPU's: autograd runs what is on a device in a queue
    of its own, and adds up the parts of a derivative in the order in which they come.
    """
    if device == AWAY and method == "laplace":
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11, err_msg=what)
    elif device == AWAY:
        np.testing.assert_array_equal(one, other, err_msg=what)
    else:
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8, err_msg=what)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("model", "method"), PAIRS)
def test_every_pair_gives_the_same_answer_on_another_device(model, method, device, monkeypatch, tmp_path):
    with switched(False):
        here = short(model, method, holdout=0.2 if model != "potts_grid" else None)
    if device == AWAY:  # Pyro's own drawing of a program knows no such tensors
        monkeypatch.setattr("pyrozoo.store.run_directory.draw_plates", lambda posterior: Figure())
    with on(device, monkeypatch):
        there = short(model, method, holdout=0.2 if model != "potts_grid" else None)
        assert {value.device.type for value in there.draws.values()} == {device.type}
        for site, value in here.draws.items():
            same(value.numpy(), there.draws[site].cpu().numpy(), device, site, method)
        for name, value in here.metrics.items():
            if (
                isinstance(value, float)
                and math.isfinite(value)
                and "second" not in name
                and (device == AWAY or name not in RANKS)
            ):
                same(value, there.metrics[name], device, name, method)
        for answer in ANSWERS:
            new = () if answer == "recommend" else (case(model, method).tiny,)
            try:
                expected = getattr(here, answer)(*new)
            except NotApplicable:
                continue
            pd.testing.assert_frame_equal(
                getattr(there, answer)(*new), expected, check_exact=device == AWAY and method != "laplace"
            )
        directory = there.save(tmp_path / "run", report="brief")
    again = pyrozoo.load(directory)
    same(again.objective, here.objective, device, method=method)


@pytest.mark.cuda  # nothing but a real device's tensors can be stored
@pytest.mark.parametrize(
    ("model", "method"), [("zip_mixture", "gibbs"), ("poisson_mf", "cavi"), ("potts_grid", "gibbs")]
)
def test_a_run_goes_on_where_it_was_on_a_card(model, method, monkeypatch, tmp_path):
    with on(CARD, monkeypatch):
        limit = {"draws": 30, "warmup": 10, "chains": 2} if method == "gibbs" else {"max_iterations": 30, "tol": 0.0}
        whole = short(model, method, **limit)

        with monkeypatch.context() as patch:
            interrupt_at(patch, 12)
            assert short(model, method, **limit, directory=tmp_path, checkpoint_every=5).status == "interrupted"
        again = pyrozoo.resume(tmp_path, model=case(model, method).model, data=case(model, method).tiny)
        for site, value in whole.draws.items():
            same(value.cpu().numpy(), again.draws[site].cpu().numpy(), CARD, site)


def test_auto_takes_a_card_for_large_data(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of("cuda", 10).type == device_of("auto", LARGE).type == device_of("auto").type == "cuda"
    assert device_of("auto", LARGE - 1).type == device_of("cpu").type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto", LARGE).type == "cpu"
    with pytest.raises(SettingError, match="no CUDA device here"):
        device_of("cuda")


def test_closed_form_solvers_are_in_single_precision_on_a_card():
    assert precision(None, CARD, solver=True) == torch.float32
    assert precision("float64", CARD, solver=True) == precision(None, CARD, solver=False) == torch.float64
    assert precision(None, torch.device("cpu"), solver=True) == torch.float64
    assert precision("float32", torch.device("cpu"), solver=False) == torch.float32


def test_chains_ask_a_captured_density_through_python(monkeypatch):
    """What a card replays is computed anew here: the chains are those of the compiled density, up to rounding."""

    def capture(compute):
        result = compute()
        return lambda: result.copy_(compute()), result

    settings = {"warmup": 100, "draws": 20, "chains": 2, "backend": "nutpie"}
    compiled = short("zip_mixture", "nuts", **settings)
    monkeypatch.setattr("pyrozoo.compiler.captured.capture", capture)
    monkeypatch.setattr("pyrozoo.inference.nuts.CompiledDensity", CapturedDensity)
    captured = short("zip_mixture", "nuts", **settings)
    assert captured.metrics["backend"] == "nutpie"
    assert len(captured.trace) == len(compiled.trace) == 240
    one, other = (each.trace.sort_values(["chain", "iteration"]) for each in (captured, compiled))
    for trace in (one, other):
        assert trace.groupby("chain")["seconds"].diff().min() >= 0
    first = (
        one.groupby("chain").head(10)["objective"].to_numpy(),
        other.groupby("chain").head(10)["objective"].to_numpy(),
    )
    np.testing.assert_allclose(*first, rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_fits_of_several_devices_and_precisions_are_compared(device, monkeypatch):
    limits = {"em": {"restarts": 2}, "cavi": {"restarts": 2}, "gibbs": {"warmup": 20, "draws": 40}}
    with switched(False):
        here = [short("zip_mixture", method, **limit) for method, limit in limits.items()]
    with on(device, monkeypatch):
        there = [short("zip_mixture", method, **limit) for method, limit in limits.items()]
        single = short("zip_mixture", "cavi", restarts=2, dtype="float32")
        expected, found, mixed = (pyrozoo.compare(fits) for fits in (here, there, [here[0], *there[1:], single]))
    for name in ("objective", "elbo", "loo_elpd"):
        same(found.table[name].to_numpy(), expected.table[name].to_numpy(), device, name)
    assert len(mixed.table) == 4
    assert np.isfinite(mixed.table["elbo"][3])


@pytest.mark.parametrize("model", [model for model in catalog.models() if "nuts" in catalog.methods(model)])
def test_densities_run_without_the_host(model, monkeypatch):
    """A card does a gradient alone, once it has been rehearsed: nothing waits, and what the host made is there."""
    monkeypatch.setattr("pyrozoo.compiler.captured.waiting_refused", Waits)
    with a_device(), pyro.validation_enabled(False), without_branches():
        posterior = Posterior.of(case(model).model, case(model).tiny.to(AWAY, torch.float64))
        space = posterior.density({site: value[0] for site, value in posterior.initial(1).items()})
        at = torch.randn(space.size, dtype=torch.float64).to(AWAY).requires_grad_(True)
        host = rehearse(lambda: gradient_of(space, at))
        with host.again():
            found = gradient_of(space, at)
        value, slope = eager(space)(at.detach().cpu())
    same(found[0].cpu().numpy(), value, AWAY)
    np.testing.assert_allclose(found[1:].cpu().numpy(), slope.cpu().numpy(), rtol=1e-10)


def test_what_waits_for_the_host_is_not_captured(monkeypatch):
    monkeypatch.setattr("pyrozoo.compiler.captured.waiting_refused", Waits)
    with a_device():
        x = torch.arange(3.0).to(AWAY)
        for waits in (lambda: float(x[0]), lambda: x[x > 1], lambda: x.cpu(), lambda: x.nonzero()):
            with pytest.raises(RuntimeError, match="waits for the host"):
                rehearse(waits)
        host = rehearse(lambda: x + x.new_tensor([1.0, 2.0, 3.0]) * torch.tensor(2.0).to(AWAY))
        assert len(host.made) == 2


@pytest.mark.parametrize("zero", [False, True])
def test_cumulative_products_have_their_derivative(zero):
    values = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[1, 2] *= 0.0 if zero else 1.0
    weights = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slopes = []
    for mode in (contextlib.nullcontext(), Host().first()):
        leaf = values.clone().requires_grad_(True)
        with mode:
            (leaf.cumprod(1) * weights).sum().backward()
        slopes.append(leaf.grad)
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-14)


def regression(x, y):
    slope = pyro.sample("slope", dist.Normal(x.new_tensor(0.0), 1.0))
    noise = pyro.sample("noise", dist.HalfNormal(x.new_tensor(1.0)))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, noise), obs=y)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("start", ["uniform", "prior", "laplace", {"slope": 0.3, "noise": 0.5}])
def test_chains_of_a_program_start_where_its_arguments_are(device, start, monkeypatch):
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)
    found = []
    for there in (torch.device("cpu"), device):
        with on(there, monkeypatch) if there == device else contextlib.nullcontext():
            args = [each.to(there) for each in (x, 0.5 * x + 0.1 * x.cos())]
            found.append(pyrozoo.nuts(regression, args, draws=4, warmup=3, chains=2, start=start, progress=False))
    for site in ("slope", "noise"):
        same(found[1].posterior[site].values, found[0].posterior[site].values, device, site)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ["laplace", "svi", "nuts"])
def test_a_program_of_ones_own_runs_on_another_device(device, method, monkeypatch):
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)
    args, quick = (x, 0.5 * x + 0.1 * x.cos()), {**SHORT.get(method, {}), "progress": False}
    here = pyrozoo.fit(regression, method, args=args, **quick)
    with on(device, monkeypatch):
        there = pyrozoo.fit(regression, method, args=args, **quick)
        for site, value in here.draws.items():
            assert there.draws[site].device.type == device.type
            same(value.numpy(), there.draws[site].cpu().numpy(), device, site)
