"""From a recipe to a model: the step, validation, checkpoints, faults."""
