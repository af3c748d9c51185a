"""``hocket scale``: what each way of training on several workers buys in time, and costs in words."""

from hocket.studies.scale.settings import GridSettings, Strategy, StudySettings
from hocket.studies.scale.study import StudyReport, Watch, scale

__all__ = ["GridSettings", "Strategy", "StudyReport", "StudySettings", "Watch", "scale"]
