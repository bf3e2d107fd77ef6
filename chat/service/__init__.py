"""The use cases, one module per noun. Each takes a principal, asks `may()`, and is the only caller of the log."""
