"""A prepared corpus as tars: cutting it, writing one, and where each utterance then lies."""
