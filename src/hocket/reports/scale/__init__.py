"""A study of ways to train on several workers, as one page and as a table."""

from hocket.reports.scale.facts import Cell, Details, Parity, Study
from hocket.reports.scale.page import page

__all__ = ["Cell", "Details", "Parity", "Study", "page"]
