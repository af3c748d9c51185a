"""Pictures and tables, made from the events and the summary of a run and from nothing else."""
