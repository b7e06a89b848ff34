"""A run's report: every figure as JSON (`figures`, `assessment`), and the same as one page (`page`, `charts`)."""
