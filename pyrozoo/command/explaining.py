"""``explain model=MODEL inference=METHOD``: a page that derives the updates of a method from the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrozoo.command.arguments import Arguments
from pyrozoo.command.terminal import complain, say
from pyrozoo.run import catalog


def explain(arguments: Arguments) -> int:
    """Write the page; return the exit code: 2 for a mistake, 1 where a hand-built update does not follow."""
    import yaml

    from pyrozoo.core.errors import UserError

    settings: dict[str, Any] = {}
    typed = dict(arguments.settings)
    typed.pop("explain")
    model, method, data = (typed.pop(name, None) for name in ("model", "inference", "data"))
    output = typed.pop("output", None)
    for group, name in (("model", model), ("inference", method)):
        if name is None:
            return complain(f"{group}=... is missing: explain model=zip_mixture inference=gibbs")
        if problem := catalog.check_choice(group, name, model):
            return complain(problem)
    for name, text in typed.items():
        group, _, key = name.partition(".")
        if name != "seed" and (group not in ("model", "data") or not key):
            return complain(f"{name}: explain takes model=, inference=, data=, seed=, output=, model.* and data.* only")
        settings[key or name] = yaml.safe_load(text)
    path = Path(output or f"outputs/explained/{Path(str(model)).stem}_{method}.html")
    from pyrozoo.run.explain import explain as explained

    try:
        found = explained(str(model), str(method), data, path=path, **settings)
    except UserError as error:
        return complain(str(error))
    say(f"{found}\n  {path}\n")
    return 0 if found.same else 1
