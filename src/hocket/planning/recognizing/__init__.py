"""Planning a recognition: workers, backend, precision, micro-batches, hardware, and what they cost."""
