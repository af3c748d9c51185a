"""How large a batch a model and a corpus bear: sizes, learning-rate rules and seeds, each a run."""

from hocket.studies.batch.grid import BatchStudy
from hocket.studies.batch.study import study_batch
from hocket.studies.scale.study import Watch

__all__ = ["BatchStudy", "Watch", "study_batch"]
