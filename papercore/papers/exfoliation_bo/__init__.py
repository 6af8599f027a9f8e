"""exfoliation_bo: autonomous exfoliation of 2D semiconductors with Bayesian optimisation (arXiv 2411.06891)."""
