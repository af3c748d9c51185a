"""Parts of ``benchmarks/balance.py``: corpora as columns, the two ways of batching, and what they cost."""
