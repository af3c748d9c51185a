"""Recognition: audio in, words out, by one process or a job of many.

Nothing is imported here, so that a worker process is watched over before it loads the heavy parts.
The doors are :mod:`~hocket.recognition.recognizer` (the Python API, one process),
:mod:`~hocket.recognition.job` (many processes), :mod:`~hocket.recognition.score` and
:mod:`~hocket.recognition.compare`.
"""
