"""Bugs that people write, each of which some test must notice: file, what stands there, what stands there by mistake.

The first 29 went unnoticed once.
"""

MODELS = "pyrozoo/models"
PLANTED = (
    (f"{MODELS}/zip_mixture/view.py", "(test.filled.sum() / seen.sum())", "test.filled.mean()"),
    (
        f"{MODELS}/zip_mixture/view.py",
        "enumerate(fit.data.column_labels) for site",
        "enumerate(reversed(fit.data.column_labels)) for site",
    ),
    (f"{MODELS}/factor_analysis/view.py", "explained / (explained + noise)", "explained / (explained + noise.sqrt())"),
    (f"{MODELS}/factor_analysis/view.py", '"noise_sd": noise.sqrt()', '"noise_sd": noise'),
    (f"{MODELS}/poisson_mf/stochastic_cavi.py", "m.column_shape + scale * of_columns", "m.column_shape + of_columns"),
    (
        f"{MODELS}/poisson_mf/queries.py",
        'exposed(mean["row_factors"], data).sum(0), dim=1)',
        'exposed(mean["row_factors"], data).sum(0), dim=0)',
    ),
    (
        f"{MODELS}/gaussian_mf/view.py",
        "mean + of_columns[hidden.columns.cpu()] + of_rows",
        "mean + of_columns[hidden.columns.cpu()] - of_rows",
    ),
    (f"{MODELS}/gaussian_mf/queries.py", "expected(part, pairs[index])", "expected(part, pairs[: len(index)])"),
    (
        f"{MODELS}/gaussian_mf/queries.py",
        "U.new_tensor(model.noise_variance)",
        "U.new_tensor(model.noise_variance).sqrt()",
    ),
    (
        f"{MODELS}/potts_grid/view.py",
        "list(data.column_labels) * data.shape[0]",
        "[name for name in data.column_labels for _ in data.row_labels]",
    ),
    (f"{MODELS}/potts_grid/messages.py", "new.lerp_(old, self.damping)", "new.lerp_(old, 1 - self.damping)"),
    (
        f"{MODELS}/categorical_fa/queries.py",
        "(second / count - mean.square()).clamp(min=0).sqrt()",
        "(second / count).sqrt()",
    ),
    (f"{MODELS}/categorical_fa/synthesis.py", "found - weight", "weight - found"),
    (
        f"{MODELS}/categorical_fa/mc_em.py",
        "(flat - state.average) / count.unsqueeze(-1)",
        "(flat - state.average) / (count.unsqueeze(-1) + 1)",
    ),
    (f"{MODELS}/categorical_fa/laplace_em.py", " + 0.5 * d * math.log(2 * math.pi)", ""),
    ("pyrozoo/inference/sample.py", "(age - warmup) % now.thin == 0", "(age - warmup) % now.thin == now.thin - 1"),
    ("pyrozoo/inference/sample.py", "if age > self.settings.warmup:", "if age > self.settings.warmup + 1:"),
    (
        "pyrozoo/inference/optimise.py",
        "take(now.evaluated, done.nonzero().flatten())",
        "take(now.current, done.nonzero().flatten())",
    ),
    ("pyrozoo/inference/svi.py", "now.scores[-1] == max(now.scores)", "now.scores[-1] == min(now.scores)"),
    ("pyrozoo/inference/svi.py", "losses.std() / len(losses) ** 0.5", "losses.std() / len(losses)"),
    ("pyrozoo/inference/loop.py", 'time.perf_counter() - saved["elapsed"]', "time.perf_counter()"),
    ("pyrozoo/diagnostics/metrics.py", "partial(ess, of=part), np.nanmin", "partial(ess, of=part), np.nanmax"),
    ("pyrozoo/diagnostics/metrics.py", "return effective / (chains * count)", "return effective / count"),
    ("pyrozoo/diagnostics/metrics.py", "math.log10(max(draws, 11))", "math.log(max(draws, 11))"),
    (
        "pyrozoo/diagnostics/metrics.py",
        'result["ess_per_second"] = float(result["ess_bulk_min_invariants"])',
        'result["ess_per_second"] = float(result["ess_bulk_min"])',
    ),
    ("pyrozoo/diagnostics/metrics.py", ".square().mean().sqrt().item()", ".square().mean().item()"),
    ("pyrozoo/diagnostics/verdict.py", '"high" if error > 0 else "low"', '"low" if error > 0 else "high"'),
    ("pyrozoo/diagnostics/verdict.py", "if least < limits.ess:", "if least < limits.ess / 4:"),
    ("pyrozoo/diagnostics/verdict.py", "if loss > limits.holdout_loss:", "if -loss > limits.holdout_loss:"),
)
