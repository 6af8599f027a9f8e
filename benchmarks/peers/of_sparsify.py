"""EleutherAI's sparsify, see serve.py: the step that its trainer takes for activations, with its Adam."""

import torch
from serve import serve
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder


def make(name: str, d: int, m: int, k: int):
    """TopK is what it has."""
    coder = SparseCoder(d, SparseCoderConfig(num_latents=m, k=k))
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-3)
    silent = torch.zeros(m, dtype=torch.long)

    def step(x):
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=silent > 10 * m)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        silent.add_(len(x))
        silent[out.latent_indices.flatten()] = 0

    return step, lambda x: float(k)


serve(make)
