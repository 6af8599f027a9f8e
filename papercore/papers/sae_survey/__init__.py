"""Room of the paper "A Survey on Sparse Autoencoders" (arXiv 2503.05613)."""
