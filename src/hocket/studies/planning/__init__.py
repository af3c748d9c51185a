"""Which way of being parallel pays for a recipe: from the recipe and the machine to a plan."""
