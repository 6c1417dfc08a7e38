"""One module for each service of AWS."""
