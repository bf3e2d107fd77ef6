"""What `make bench` measures: one module a figure, each a program that prints its results as JSON lines."""
