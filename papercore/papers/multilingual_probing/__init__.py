"""Room of multilingual probing (arXiv 2409.14459): statements in many languages, probes, splits, transfer."""
