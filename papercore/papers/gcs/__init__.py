"""Room of GCS, the Gaussian concept subspace (arXiv 2410.00153): data, probes' distribution, sampling, steering."""
