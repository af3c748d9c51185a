"""What every floor stands on: errors, events, recipes, seeds, clocks, cost and protocols."""
