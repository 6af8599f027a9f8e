"""One trainer for every SAE: shuffled activations, unit decoder rows, AuxK, an L0 controller, resume. Floor: sae."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from papercore.sae.base import SAE, SAEError

# The controller of a penalty: a step moves the coefficient's logarithm by this much of log(L0 / k), beside what is
# proportional to log(L0 / k) itself; without the latter it would swing around its aim.
CONTROL = 0.05
FIRST_COEFFICIENT = 1e-3
# Tokens a latent below which a dictionary is too wide for its data.
FEWEST = 10


@dataclass(frozen=True)
class Recipe:
    """How an SAE is trained; everything that its weights depend on, but the data and the SAE's own settings.

    batch: tokens a step. lr: Adam's, after `warmup` steps, falling to 0 over the last `decay` share. dead_after: tokens
    without firing after which a latent is dead, in latents (10: 10 n_latents tokens); a fixed 10 million tokens, the
    peers' value, would never be reached in a short run, and AuxK would be off. clip: gradient norm.
    """

    steps: int = 300
    batch: int = 1024
    lr: float = 1e-3
    warmup: int = 20
    decay: float = 0.3
    dead_after: int = 10
    clip: float = 1.0
    seed: int = 0


Progress = Callable[[int, int, dict], None]


def train(
    sae: SAE,
    x: torch.Tensor,
    recipe: Recipe | None = None,
    *,
    target: torch.Tensor | None = None,
    checkpoint: str | os.PathLike | None = None,
    every: int = 100,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train `sae` in place on activations x (n_tokens, d_model); returns its history, a row a step.

    target: (n_tokens, d_out) to be written instead of x. checkpoint: a safetensors file kept `every` steps, from which
    the same call goes on after an interruption, to the same weights. progress is called with step, steps and the row.
    Columns: step, mse, l0, dead (share of latents), coefficient. Raises SAEError for data that cannot be trained on.
    """
    recipe = recipe or Recipe()
    check_activations(x, sae.d_model)
    if len(x) < FEWEST * sae.n_latents:
        warnings.warn(f"{len(x)} tokens for {sae.n_latents} latents are few: {FEWEST} a latent or more", stacklevel=2)
    device = next(sae.parameters()).device
    sae.calibrate(x[torch.randperm(len(x), generator=_generator(recipe.seed))[:4096]].to(device))
    sae.coefficient = FIRST_COEFFICIENT if sae.steered else 1.0
    sae.train()
    learning = [p for p in sae.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=recipe.lr, betas=sae.betas, fused=True)
    state = _State(torch.zeros(sae.n_latents, dtype=torch.long, device=device), 0.0, [])
    name = _identity(sae, x, target, recipe) if checkpoint else ""
    begin = _load(Path(checkpoint), name, sae, optimiser, state) if checkpoint else 0
    for step in range(begin, recipe.steps):
        rows = _batch(step, len(x), recipe)
        batch = x[rows].to(device)
        wanted = None if target is None else target[rows].to(device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * _schedule(step, recipe)
        sae.progress(step / recipe.steps)
        state.rows.append({"step": step, **_step(sae, batch, wanted, optimiser, recipe, state)})
        if progress:
            progress(step + 1, recipe.steps, state.rows[-1])
        if checkpoint and ((step + 1) % every == 0 or step + 1 == recipe.steps):
            _save(Path(checkpoint), name, sae, optimiser, state)
    sae.eval()
    return pd.DataFrame(state.rows)


@dataclass
class _State:
    """What training remembers beside the weights: tokens since each latent fired, log(L0 / k), the history."""

    silent: torch.Tensor
    off: float
    rows: list[dict]


def _step(sae: SAE, batch, wanted, optimiser, recipe: Recipe, state: _State) -> dict:
    dead = state.silent >= recipe.dead_after * sae.n_latents
    loss = sae.loss(batch, dead, wanted)
    optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    sae.project()
    torch.nn.utils.clip_grad_norm_([p for p in sae.parameters() if p.requires_grad], recipe.clip)
    optimiser.step()
    sae.normalise()
    codes = loss.codes
    fired = torch.zeros_like(dead)
    fired[codes.pairs.latent[codes.active]] = True
    state.silent = torch.where(fired, 0, state.silent + len(batch))
    l0 = float(codes.active.sum()) / len(batch)
    if sae.steered:
        off = min(max(math.log(max(l0, 1e-3) / sae.k), -1), 1)
        sae.coefficient *= math.exp(CONTROL * off + off - state.off)
        state.off = off
    return {
        "mse": float(loss.mse.detach()),
        "l0": l0,
        "dead": float(dead.float().mean()),
        "coefficient": sae.coefficient,
    }


def check_activations(x: torch.Tensor, d_model: int | None = None) -> None:
    """Refuse activations that no SAE can be trained on, with SAEError in one sentence."""
    if x.ndim != 2 or not x.shape[0]:
        raise SAEError(f"activations {tuple(x.shape)} hold no tokens; give (n_tokens, d_model) with n_tokens > 0")
    if d_model is not None and x.shape[1] != d_model:
        raise SAEError(f"activations have {x.shape[1]} numbers a token, but the SAE takes {d_model}")
    if bad := int((~torch.isfinite(x)).any(1).sum()):
        raise SAEError(f"{bad} of {len(x)} activations are NaN or infinite; read them again in float32")


def _schedule(step: int, recipe: Recipe) -> float:
    """Share of the learning rate at a step: a linear rise, a plateau, a linear fall."""
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    fall = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    return min(rise, fall, 1.0)


def _batch(step: int, n: int, recipe: Recipe) -> torch.Tensor:
    """Tokens of a step, (batch,): a function of step and seed alone, so that a resumed run sees the same ones."""
    size = min(recipe.batch, n)
    each = n // size
    order = torch.randperm(n, generator=_generator(recipe.seed + 1_000_003 * (1 + step // each)))
    return order[step % each * size :][:size]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _identity(sae: SAE, x: torch.Tensor, target: torch.Tensor | None, recipe: Recipe) -> str:
    """Sha256 of recipe, SAE as it begins, and data: a checkpoint of another run is never gone on with."""
    settings = {name: value for name, value in vars(sae).items() if isinstance(value, int | float | str | bool)}
    digest = hashlib.sha256(json.dumps([type(sae).__name__, settings, asdict(recipe)], sort_keys=True).encode())
    for one in (x, target):
        if one is not None:
            digest.update(json.dumps(list(one.shape)).encode())
            digest.update(one[:: max(1, len(one) // 1000)].contiguous().cpu().numpy().tobytes())
    for weight in sae.state_dict().values():
        digest.update(weight.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _save(path: Path, name: str, sae: SAE, optimiser, state: _State) -> None:
    from safetensors.torch import save_file

    tensors = {f"sae.{key}": value.contiguous() for key, value in sae.state_dict().items()}
    for number, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value.contiguous() for key, value in entry.items()}
    tensors["silent"] = state.silent
    columns = ["step", "mse", "l0", "dead", "coefficient"]
    tensors["history"] = torch.tensor([[row[c] for c in columns] for row in state.rows], dtype=torch.float64)
    kept = {"identity": name, "off": repr(state.off), "coefficient": repr(sae.coefficient)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as part:
        save_file(tensors, Path(part) / "state", metadata=kept)
        os.replace(Path(part) / "state", path)


def _load(path: Path, name: str, sae: SAE, optimiser, state: _State) -> int:
    """Restore a checkpoint of this very run; the step to go on with, 0 where there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("identity") != name:
                return 0
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError):
        return 0
    sae.load_state_dict({key[4:]: value for key, value in tensors.items() if key.startswith("sae.")})
    entries: dict[int, dict] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, number, field = key.split(".", 2)
            entries.setdefault(int(number), {})[field] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})
    state.silent = tensors["silent"].to(state.silent.device)
    state.off, sae.coefficient = float(about["off"]), float(about["coefficient"])
    for step, *rest in tensors["history"].tolist():
        state.rows.append({"step": int(step), **dict(zip(["mse", "l0", "dead", "coefficient"], rest, strict=True))})
    return len(state.rows)
