"""What a method is: an engine with its settings."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.settings import Settings, positive, whole


@dataclass(frozen=True)
class Loop(Settings):
    """How a loop runs, the same for every engine.

    Attributes:
        seed: Of torch's generator inside the loop; the caller's random state is left alone.
        progress: Show a bar on anything over two seconds, when on a terminal.
        checkpoint: Where checkpoints go; None writes none.
        checkpoint_every: Iterations between checkpoints; None writes none.
        resume: Continue from the checkpoint.
        seconds: After which the loop ends as Ctrl-C ends it, with what it has; None: whenever it is done.
        megabytes: What the draws that are kept may take; engines keep fewer of a large model, and say so.
        moments: States that are kept on the way, at most, evenly chosen, as ``Fit.moments``; 0 keeps none.
    """

    seed: int = 0
    progress: bool = True
    checkpoint: Path | None = None
    checkpoint_every: int | None = whole(optional=True, default=None)
    resume: bool = False
    seconds: float | None = positive(optional=True, default=None)
    megabytes: float | None = positive(optional=True, default=None)
    moments: int = whole(0, default=60)


@dataclass(frozen=True, kw_only=True)
class Method(Settings, abc.ABC):
    """An engine with its settings: calling it fits a posterior.

    Attributes:
        needs: What of the model's folder it needs: nothing but the program, a guide, or a solver.
        fewest_on_a_card: Numbers of data below which the CPU is faster at it than any card, and takes the run.
        name: The method's name.
        part: Makes the guide, or the solver, from the posterior.
        options: Options of the model's own solver.
    """

    prefix: ClassVar[str] = "inference."
    needs: ClassVar[Literal["program", "guide", "solver"]] = "program"
    fewest_on_a_card: ClassVar[int] = 0
    name: str
    part: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def streams(self) -> bool:
        """Return whether a step asks for the rows of one minibatch only, so that rows can stay in files.

        Raises:
            SettingError: Some setting has it ask for all.
        """
        return bool(getattr(self.part, "streams", False))

    @abc.abstractmethod
    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior."""
