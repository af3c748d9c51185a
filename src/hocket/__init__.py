"""hocket: train acoustic models and recognise speech on many workers, with one answer."""

__version__ = "0.1.0"
