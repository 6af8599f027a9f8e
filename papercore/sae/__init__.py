"""Floor `sae`: sparse autoencoders, one architecture a file, and what measures them. May import probes and below."""
