"""One file for each thing the product does; they never call each other."""
