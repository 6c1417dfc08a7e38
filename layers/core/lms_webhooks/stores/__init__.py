"""One module for each kind of item in the tables."""
