"""Floor `probes`: linear probes and the directions they find. May import models, study and assets."""
