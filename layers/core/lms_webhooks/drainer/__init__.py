"""The drainer function: deliver pending events until each has an outcome."""
