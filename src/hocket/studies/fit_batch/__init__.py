"""The largest micro-batch that a worker's memory holds: measured, predicted, tried."""

from hocket.studies.fit_batch.draw import draw
from hocket.studies.fit_batch.search import FitReport, fit_batch

__all__ = ["FitReport", "draw", "fit_batch"]
