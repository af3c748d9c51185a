"""Studies: jobs made of jobs, that end in a table."""
