"""pictures"""

from pyrozoo.types import Fit, Picture


def pictures(fit: Fit) -> list[Picture]:
    return []
