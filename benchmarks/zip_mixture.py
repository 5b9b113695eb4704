"""zip_mixture: EM against the textbook way, and how its cost grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.harness import Row, alone, in_turns
from pyrozoo.contracts.method import Loop
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.inference.optimise import Optimise
from pyrozoo.models.zip_mixture import em
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.models.zip_mixture.posterior import Posterior

RESTARTS, ITERATIONS = 50, 100
TEXTBOOK_ITERATIONS = 2  # per restart and round; every iteration costs the same, so the rest is multiplied


def model(components: int = 10) -> ZipMixture:
    return ZipMixture(components, 2.0, 2.0, 2.0, 2.0, 1.0)


def ours(table: Table, restarts: int, iterations: int, components: int = 10) -> float:
    method = Optimise(name="em", part=em.Solver, restarts=restarts, max_iterations=iterations, tol=0.0)
    return method(Posterior(model(components), table), Loop(progress=False)).objective


def textbook(x: Tensor, iterations: int, start: dict[str, Tensor]) -> float:
    """One restart with N x K x D tensors, written with care: each is computed once and used again."""
    a0 = b0 = e0 = 2.0
    f0, alpha = 1.0, 2.0
    pi, omega, lam = start["weights"], start["on_prob"], start["rate"]
    objective = 0.0
    for _ in range(iterations):
        x3 = x[:, None, :]
        poisson = torch.distributions.Poisson(lam[None]).log_prob(x3)
        on = omega.log()[None] + poisson
        off = torch.where(x3 == 0, torch.log1p(-omega)[None], -torch.inf)
        both = torch.logaddexp(on, off)  # N x K x D
        log_r = both.sum(2) + pi.log()
        evidence = log_r.logsumexp(1, keepdim=True)
        r = (log_r - evidence).exp()
        e_b = (on - both).exp()  # N x K x D
        objective = float(
            evidence.sum()
            + torch.distributions.Gamma(e0, f0).log_prob(lam).sum()
            + torch.distributions.Beta(a0, b0).log_prob(omega).sum()
            + torch.distributions.Dirichlet(torch.full_like(pi, alpha)).log_prob(pi)
        )
        weighted = r[:, :, None] * e_b  # N x K x D
        pi = (r.sum(0) + alpha - 1) / (len(x) + len(pi) * (alpha - 1))
        omega = (weighted.sum(0) + a0 - 1) / (r.sum(0)[:, None] + a0 + b0 - 2)
        lam = ((weighted * x3).sum(0) + e0 - 1) / (weighted.sum(0) + f0)
    return objective


def course(x: Tensor, iterations: int, start: dict[str, Tensor]) -> float:
    """One restart with N x K x D tensors as a course hands it out: E-step, M-step, then the bound by its four terms.

    E_q log p(X | B, Z) + E_q log p(B, Z) + H(q) + log p(Theta), each evaluated as it stands, after every iteration.
    """
    a0 = b0 = e0 = 2.0
    f0, alpha = 1.0, 2.0
    pi, omega, lam = start["weights"], start["on_prob"], start["rate"]
    x3, bound = x[:, None, :], 0.0
    for _ in range(iterations):
        # E-step: q(z), and q(b | z) from the two branches of every cell
        on = torch.distributions.Poisson(lam[None]).log_prob(x3) + torch.distributions.Bernoulli(omega[None]).log_prob(
            torch.ones_like(x3)
        )
        off = torch.where(x3 == 0, 0.0, -torch.inf) + torch.distributions.Bernoulli(omega[None]).log_prob(
            torch.zeros_like(x3)
        )
        branches = torch.stack([off, on], -1)
        q_b = torch.softmax(branches, -1)
        r = torch.softmax(branches.logsumexp(-1).sum(-1) + pi.log(), -1)
        # M-step
        weighted = r[:, :, None] * q_b[..., 1]
        pi = (r.sum(0) + alpha - 1) / (len(x) + len(pi) * (alpha - 1))
        omega = (weighted.sum(0) + a0 - 1) / (r.sum(0)[:, None] + a0 + b0 - 2)
        lam = ((weighted * x3).sum(0) + e0 - 1) / (weighted.sum(0) + f0)
        # the bound
        likelihood = (weighted * torch.distributions.Poisson(lam[None]).log_prob(x3)).sum()
        latent = (r * pi.log()).sum() + (
            r[:, :, None] * (q_b[..., 1] * omega.log() + q_b[..., 0] * torch.log1p(-omega))
        ).sum()
        entropy = -torch.xlogy(r, r).sum() - (r[:, :, None] * torch.xlogy(q_b, q_b).sum(-1)).sum()
        prior = (
            torch.distributions.Gamma(e0, f0).log_prob(lam).sum()
            + torch.distributions.Beta(a0, b0).log_prob(omega).sum()
            + torch.distributions.Dirichlet(torch.full_like(pi, alpha)).log_prob(pi)
        )
        bound = float(likelihood + latent + entropy + prior)
    return bound


def memory_of_em(rows: int, columns: int, components: int, restarts: int, iterations: int) -> None:
    ours(simulate_data(model(components), rows=rows, columns=columns, seed=0), restarts, iterations, components)


def rows() -> Iterator[Row]:
    table = simulate_data(model(), rows=975, columns=50, seed=0)
    torch.manual_seed(0)
    solver = em.Solver(Posterior(model(), table))
    starts = state = solver.init(RESTARTS)
    first = {site: getattr(starts, site)[0] for site in ("weights", "on_prob", "rate")}
    # The same start gives the same path: a benchmark of two different answers would say nothing.
    for _ in range(5):
        state, info = solver.step(state)
    assert abs(textbook(table.values, 5, first) - float(info.objective[0])) < 1e-6 * abs(float(info.objective[0]))

    _, peak = alone(memory_of_em, 975, 50, 10, RESTARTS, ITERATIONS)
    for name, reference in (("computed with care", textbook), ("as a course hands it out, four-term bound", course)):

        def theirs(reference: Callable[..., float] = reference) -> None:
            for chain in range(RESTARTS):
                start = {site: getattr(starts, site)[chain] for site in first}
                reference(table.values, TEXTBOOK_ITERATIONS, start)

        fast, slow = in_turns(lambda: ours(table, RESTARTS, ITERATIONS), theirs)
        yield Row(
            f"zip_mixture EM, N=975, D=50, K=10, {RESTARTS} restarts x {ITERATIONS} iterations",
            fast,
            f"one restart at a time, N x K x D tensors, float64, {name}",
            slow * ITERATIONS / TEXTBOOK_ITERATIONS,
            f"theirs: {TEXTBOOK_ITERATIONS} of {ITERATIONS} iterations of each restart timed and multiplied",
            peak,
        )
    for count in (1_000, 10_000, 100_000):
        seconds, peak = alone(memory_of_em, count, 50, 10, 10, 20)
        yield Row(f"zip_mixture EM, N={count}, D=50, K=10, 10 restarts x 20 iterations", seconds, "", None,
                  "simulation included", peak)  # fmt: skip
    for components in (2, 20, 200):
        seconds, peak = alone(memory_of_em, 10_000, 50, components, 10, 20)
        yield Row(f"zip_mixture EM, N=10000, D=50, K={components}, 10 restarts x 20 iterations", seconds, "", None,
                  "simulation included", peak)  # fmt: skip
