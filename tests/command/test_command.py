"""The command, as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import pyrozoo
from pyrozoo.command.arguments import Arguments, early_problem, spelled_out
from pyrozoo.command.help import help_text
from pyrozoo.command.main import main
from pyrozoo.core.paths import PACKAGE
from pyrozoo.run import catalog
from pyrozoo.run.fit import Run

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

SMALL = ["model=zip_mixture", "data.rows=60", "data.columns=4", "model.num_components=2"]


QUICKLY = ["report=none", "moments=0"]  # of every job; what a sweep writes of all of them, it writes


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return exit code, standard output, standard error."""
    before = sys.argv
    sys.argv = ["pyrozoo", *arguments]
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        sys.argv = before
    output = capsys.readouterr()
    return int(caught.value.code or 0), output.out, output.err


def only_run(folder: Path) -> Path:
    (found,) = (path.parent for path in folder.rglob("metrics.json"))
    return found


def test_main_job(here, capsys):
    code, out, _ = run(capsys, *SMALL, "inference=em")
    assert code == 0
    directory = only_run(here)
    assert re.fullmatch(r"outputs/zip_mixture/em/\d{4}-\d\d-\d\d_[\d-]+", directory.relative_to(here).as_posix())
    assert str(directory.relative_to(here)) in out
    assert {path.name for path in directory.iterdir()} == {
        "posterior.nc", "trace.csv", "runs.csv", "metrics.json", "summary.csv", "tables", "figures", "report.html",
        ".hydra",
    }  # fmt: skip
    assert not list(directory.glob(".*.*")), "no temporary file is left"


def test_command_and_python_give_the_same(here, capsys):
    run(capsys, *SMALL, "inference=cavi", "seed=3")
    fit = pyrozoo.fit("zip_mixture", "cavi", rows=60, columns=4, num_components=2, seed=3)
    metrics = json.loads((only_run(here) / "metrics.json").read_text())
    drop = {"seconds"}
    assert {k: v for k, v in metrics.items() if k not in drop} == {
        k: v for k, v in fit.metrics.items() if k not in drop
    }


def test_stored_config_runs_it_again(here, capsys):
    short = ["inference.draws=20", "inference.warmup=10", "inference.thin=2", "report=none"]
    run(capsys, *SMALL, "inference=gibbs", *short)
    config = yaml.safe_load((only_run(here) / ".hydra" / "config.yaml").read_text())
    again = Run.from_config(config).result()
    assert again.metrics["objective"] == json.loads((only_run(here) / "metrics.json").read_text())["objective"]


def test_own_csv_from_another_folder(here, capsys):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        generator.poisson(2, (40, 3)) * generator.integers(0, 2, (40, 3)), columns=["owl", "möwe", "kite"]
    )
    frame.insert(0, "site", [f"site {i}" for i in range(40)])
    frame.loc[3, "owl"] = np.nan
    frame.to_csv("counts.csv", index=False, encoding="utf-8-sig")
    code, _out, err = run(
        capsys, "model=zip_mixture", "inference=em", "data=table", "data.path=counts.csv", "data.row_labels=site",
        "model.num_components=2", "data.holdout=0.1",
    )  # fmt: skip
    assert code == 0, err
    clusters = pd.read_csv(only_run(here) / "tables" / "clusters.csv")
    assert clusters["row"].tolist() == frame["site"].tolist()


MISTAKES = [
    (["model=zip_mixtur", "inference=em"], "did you mean 'zip_mixture'"),
    (["model=zip_mixture", "inference=emm"], "did you mean 'em'"),
    (["model=zip_mixture", "inference=em", "data=nothing"], "choices"),
    (["model=zip_mixture", "inference=em", "experiment=zip"], "choices"),
    (["model=zip_mixture"], "inference=... is missing"),
    (["inference=em"], "model=... is missing"),
    (["model=zip_mixture", "inference=em,cavi"], "needs -m"),
    ([*SMALL, "inference=em", "model.num_component=3"], "did you mean 'num_components'"),
    ([*SMALL, "inference=em", "inference.restart=3"], "did you mean 'restarts'"),
    ([*SMALL, "inference=em", "inference.restarts=0"], "inference.restarts is 0"),
    ([*SMALL, "inference=em", "inference.restarts=many"], "inference.restarts is 'many'"),
    ([*SMALL, "inference=em", "model.num_components=0"], "model.num_components is 0"),
    ([*SMALL, "inference=em", "model.rate_shape=0.5"], "model.rate_shape"),
    ([*SMALL, "inference=em", "seed=x"], "seed is 'x'"),
    ([*SMALL, "inference=em", "dtype=float16"], "dtype is 'float16'"),
    ([*SMALL, "inference=em", "device=cuda"], "no CUDA device"),
    ([*SMALL, "inference=em", "data.holdout=1.5"], "data.holdout is 1.5"),
    (["model=zip_mixture", "inference=em", "data=table"], "data.path"),
    (["model=zip_mixture", "inference=em", "data=table", "data.path=absent.csv"], "there is no file absent.csv"),
    (["model=zip_mixture", "inference=em", "data=table", "data.path=bad.csv"], "column 'b'"),
    (["model=zip_mixture", "inference=em", "data=table", "data.path=good.csv", "data.columns=[z]"], "no column 'z'"),
    ([*SMALL, "inference=em", "nonsense"], "nonsense"),
    (["resume=absent"], "absent"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), MISTAKES, ids=lambda v: " ".join(v)[-40:] if isinstance(v, list) else ""
)
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, monkeypatch, arguments, says):
    import torch

    if "device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    Path("bad.csv").write_text("a,b\n1,2\n3,-4\n")
    Path("good.csv").write_text("a,b\n1,2\n3,4\n")
    code, out, err = run(capsys, *arguments)
    assert code == 2, err
    assert says in err
    assert err.count("\n") == 1, err
    assert out == ""
    assert not Path("outputs").exists()


def test_help_and_mistakes_answer_in_under_a_second_without_torch():
    script = (
        "import sys; from pyrozoo.__main__ import main\n"
        "try: main()\nfinally: assert not {'torch', 'pyro', 'arviz'} & set(sys.modules)"
    )
    for arguments, code in ((["--help"], 0), (["model=zip_mixtur", "inference=em"], 2)):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        text = done.stdout + done.stderr
        assert "zip_mixture" in text
        assert "Traceback" not in text
    text = help_text()
    for name in (*catalog.options("inference"), *catalog.options("experiment"), *catalog.models()):
        assert name in text


def test_output_folder_that_cannot_be_made(here, capsys):
    Path("outputs").write_text("a file is in the way")
    code, _, err = run(capsys, *SMALL, "inference=em")
    assert code == 2
    assert err.count("\n") == 1, err


@pytest.mark.quick
def test_sweep_is_a_comparison(here, capsys):
    code, out, err = run(capsys, "-m", *SMALL, "inference=em,cavi,laplace", "inference.restarts=2", "report=none")
    assert code == 0, err
    report = Path(out.strip().splitlines()[-1])
    table = pd.read_csv(report.parent / "comparison.csv")
    assert table["method"].tolist() == ["em", "cavi", "laplace"]
    assert table["seed"].tolist() == [0, 1, 2], "every job has its own seed"
    assert table["holdout_elpd"].notna().all()
    metrics = [json.loads(path.read_text()) for path in sorted(report.parent.glob("*/metrics.json"))]
    assert len({m["holdout_entries"] for m in metrics}) == 1
    assert "laplace" in report.read_text(encoding="utf-8")


def test_settings_of_a_swept_group(here, capsys):
    few = "inference.restarts=2"
    code, out, err = run(capsys, "-m", *SMALL, *QUICKLY, "inference=cavi,laplace", "inference.draws=40", few)
    assert code == 0, err
    report = Path(out.strip().splitlines()[-1])
    assert "laplace" in report.read_text(encoding="utf-8")
    found = sorted(report.parent.glob("*/.hydra/config.yaml"))
    assert [yaml.safe_load(path.read_text())["inference"]["draws"] for path in found] == [40, 40]
    code, _, err = run(capsys, "-m", *SMALL, "inference=em,gibbs", "inference.thin=2")
    assert (code, err.count("\n")) == (2, 1)
    assert "inference.thin" in err


def test_sweep_over_the_number_of_components(here, capsys):
    sizes = ["model.num_components=1,2,3", "inference.draws=50"]
    code, out, _ = run(capsys, "-m", *SMALL[:3], *QUICKLY, "inference=cavi", *sizes)
    assert code == 0
    table = pd.read_csv(Path(out.strip().splitlines()[-1]).parent / "comparison.csv")
    assert [name.split("num_components=")[1] for name in table["fit"]] == ["1", "2", "3"]
    assert table["elbo"].is_unique


def test_an_experiment_may_be_a_sweep():
    expected = catalog.settings("experiment", "jester_k_sweep")["sweep"]
    assert spelled_out(["experiment=jester_k_sweep", "seed=1"]) == ["-m", *expected, "seed=1"]
    few = spelled_out(["experiment=jester_k_sweep", "model.num_factors=1,2"])
    assert few == ["-m", expected[0], "model.num_factors=1,2"], "what is typed takes the place of what is listed"
    plain = ["-m", "experiment=zip_course", "experiment=none"]
    assert spelled_out(plain) == plain


def test_sweep_goes_on_after_a_failure_and_says_so(here, capsys, monkeypatch):
    monkeypatch.setattr(catalog, "refused", lambda model: {"nuts": "there is no gradient"})
    code, out, err = run(capsys, "-m", *SMALL, *QUICKLY, "inference=em,nuts,cavi", "model.rate_shape=0.5,2.0")
    assert code == 2
    report = Path([line for line in out.splitlines() if line.endswith("report.html")][-1])
    table = pd.read_csv(report.parent / "comparison.csv")
    absent = table[table["run"].notna()].set_index("run")
    assert absent["status"].value_counts().to_dict() == {"not_applicable": 2, "failed": 1}
    assert "there is no gradient" in " ".join(absent["error"])
    assert (table["status"] == "converged").sum() == 3
    assert "failed: 0_zip_mixture_em" in err
    assert "rate_shape" in report.read_text(encoding="utf-8")


SWEEPS = [name for name in catalog.options("experiment") if "sweep" in catalog.settings("experiment", name)]


def test_sweeps_are_of_experiments_that_there_are():
    for name in SWEEPS:
        group, _, chosen = catalog.settings("experiment", name)["sweep"][0].partition("=")
        assert group in ("experiment", "model")
        assert set(chosen.split(",")) <= set(catalog.options(group))


@pytest.mark.parametrize("experiment", sorted({*catalog.options("experiment")} - {*SWEEPS, *catalog.recoveries()}))
def test_every_experiment_composes(here, capsys, experiment):
    code, out, err = run(
        capsys,
        f"experiment={experiment}",
        *(["inference=cavi"] if experiment in ("zip_course_model", "jester") else []),
        "--cfg",
        "job",
    )
    assert code == 0, err
    config = yaml.safe_load(out)
    assert config["model"]["name"] in catalog.models()
    assert config["inference"]["name"] in catalog.methods(config["model"]["name"])


STOPPED_WHILE_IMPORTING = """
import os, runpy, signal, sys

class Stop:
    def find_spec(self, name, *_):
        if name == "torch.nested" and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

assert "torch" not in sys.modules
sys.meta_path.insert(0, Stop())
sys.argv = ["pyrozoo", *sys.argv[1:]]
runpy.run_module("pyrozoo", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("own", "waiting"),
    [
        ({}, ["PASSIVE", "400"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
        ({"GOMP_SPINCOUNT": "7"}, ["PASSIVE", "7"]),
    ],
)
def test_threads_that_wait_hardly_spin_unless_a_user_says_so(own, waiting):
    names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
    code = f"import os, sys, pyrozoo; print('torch' in sys.modules, *map(os.environ.get, {names}))"
    environment = {name: value for name, value in os.environ.items() if name not in names} | own
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", *waiting], "torch reads them when it loads"


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_command_interrupted_while_it_imports_exits_130(here, sweep):
    """PyTorch half imported cannot be imported: nothing may need it any more."""
    started = [sys.executable, "-c", STOPPED_WHILE_IMPORTING, *SMALL, "inference=em", *sweep]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert not (here / "outputs").exists()


def test_resume_command(here, capsys):
    sizes = {"rows": 60, "columns": 4, "num_components": 2, "tol": 0.0}
    fit = pyrozoo.fit("zip_mixture", "em", max_iterations=20, checkpoint_every=5, directory=here / "run", **sizes)
    assert fit.status == "max_iterations"
    code, _out, err = run(capsys, f"resume={here / 'run'}", "inference.max_iterations=40")
    assert code == 0, err
    whole = pyrozoo.fit("zip_mixture", "em", max_iterations=40, **sizes)
    assert json.loads((here / "run" / "metrics.json").read_text())["objective"] == whole.objective
    code, _, err = run(capsys, f"resume={here / 'run'}")
    assert (code, err.count("\n")) == (2, 1)
    assert "checkpoint" in err


@pytest.mark.slow  # the README's first command, which .ci/run runs, installs the package outside a checkout's paths
def test_wheel_runs_elsewhere(tmp_path):
    """Build the wheel, install it in a folder of its own, run command and script from another directory."""
    root = PACKAGE.parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(root)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(target),
            str(wheel),
        ],
        check=True,
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PYTHONPATH": str(target), "PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path)}
    check = "import pyrozoo, pyrozoo.core.paths; print(pyrozoo.__file__, pyrozoo.core.paths.CONF)"
    where = subprocess.run(
        [sys.executable, "-c", check], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert where.stdout.split()[0].startswith(str(target))
    assert where.stdout.split()[1].startswith(str(target))
    for start in ([sys.executable, "-m", "pyrozoo"], [sys.executable, str(target / "bin" / "pyrozoo")]):
        done = subprocess.run(
            [*start, *SMALL, "inference=em"],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(list(elsewhere.rglob("report.html"))) == 2


def test_settings_of_simulated_data_and_of_methods_are_left_as_they_are_typed():
    """Columns and missing are sizes of simulated data, and names in a file; a setting with a dot is no near miss."""
    for typed in (["data.columns=3", "data.missing=0.1"], ["-m", "data=simulated,simulated_counts", "data.columns=3"]):
        assert list(Arguments.read(["model=zip_mixture", *typed])) == sorted(
            ["model=zip_mixture", *typed], key=lambda word: word != "-m"
        )
    assert "data.columns=['3']" in list(Arguments.read(["model=zip_mixture", "data=x.csv", "data.columns=3"]))
    for setting in ("inference.draws=100", "inference.seed=1", "model.name=x"):
        assert early_problem(Arguments.read(["model=zip_mixture", "inference=laplace", setting])) is None
