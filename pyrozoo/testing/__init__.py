"""The laws of models and methods, as functions that anybody can call on a model of their own."""

from pyrozoo.testing.laws import check
from pyrozoo.testing.samplers import calibration_ranks, geweke, uniformity

__all__ = ["calibration_ranks", "check", "geweke", "uniformity"]
