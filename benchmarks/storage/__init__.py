"""Storage, measured: readers, links, cache policies, corpora of any size."""
