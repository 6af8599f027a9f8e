"""What codes are good for: sparse probing, absorption, targeted ablation (TPP, SCR). Floor: sae, above probes.

Definitions follow SAEBench (2503.09532) but for what the docstrings say. A 2026 audit found TPP and SCR unreliable at
their usual settings and sparse probing the most reliable of them; they are here to be looked at with their controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from papercore.probes.logistic import Probe, ProbeError, fit_probe
from papercore.sae.base import SAE


@torch.no_grad()
def mean_codes(sae: SAE, x: torch.Tensor, document: torch.Tensor, n_documents: int) -> torch.Tensor:
    """Mean codes of each document's tokens, (n_documents, n_latents); zeros where a document kept no token."""
    total = torch.zeros(n_documents, sae.n_latents)
    for rows in torch.arange(len(x)).split(4096):
        codes = sae.encode_sparse(x[rows])
        place = document[rows][codes.pairs.row] * sae.n_latents + codes.pairs.latent
        total.view(-1).index_add_(0, place, codes.values)
    return total / torch.bincount(document, minlength=n_documents).clamp_min(1)[:, None]


def mean_tokens(x: torch.Tensor, document: torch.Tensor, n_documents: int) -> torch.Tensor:
    """Mean activation of each document's tokens, (n_documents, d_model)."""
    total = torch.zeros(n_documents, x.shape[1]).index_add_(0, document, x)
    return total / torch.bincount(document, minlength=n_documents).clamp_min(1)[:, None]


def best_features(x: torch.Tensor, y: np.ndarray, k: int, *, scaled: bool = False) -> torch.Tensor:
    """The k features of x (n, n_features) whose class means differ most, (k,); SAEBench's rule.

    scaled: by how many standard deviations of the feature they differ. Latents are on one scale, dimensions of a
    residual stream are not. Chosen on the data given, which must be training data. Raises ProbeError for one class.
    """
    y = torch.as_tensor(np.asarray(y)).bool()
    if y.all() or not y.any():
        raise ProbeError(f"all {len(y)} labels are {int(y[0])}; sparse probing needs both classes")
    difference = (x[y].mean(0) - x[~y].mean(0)).abs()
    if scaled:
        difference = (difference / x.std(0)).nan_to_num(0.0)
    return difference.topk(min(k, x.shape[1])).indices


def sparse_probe(
    x: torch.Tensor, y: np.ndarray, k: int | None, *, scaled: bool = False
) -> tuple[torch.Tensor, Probe | None]:
    """(features, probe) of a logistic probe on `best_features` of x (n, n_features), or where k is None on all that
    vary. No probe where none of them varies.
    """
    chosen = torch.arange(x.shape[1]) if k is None else best_features(x, y, k, scaled=scaled)
    chosen = chosen[x[:, chosen].double().std(0) > 1e-9]
    return chosen, fit_probe(x[:, chosen], y) if len(chosen) else None


def answers(x: torch.Tensor, y: np.ndarray, fitted: tuple[torch.Tensor, Probe | None]) -> np.ndarray:
    """1 where a sparse probe is right on x (n, n_features), else 0; a half where there is no probe; (n,)."""
    chosen, probe = fitted
    if probe is None:
        return np.full(len(y), 0.5)
    return ((probe.scores(x[:, chosen]) > 0).numpy() == np.asarray(y).astype(bool)).astype(float)


# An absorbing latent writes the parent beside the child, about as much of it where both are as strong. Directions that
# have nothing to do with each other overlap by 1 / sqrt(d), 0.18 in 32 dimensions.
CARRIES = 0.5


def absorption(codes: torch.Tensor, decoder: torch.Tensor, truth: torch.Tensor, features: torch.Tensor, pair) -> float:
    """How much more often a parent's latent is silent where its child's fires for both than where there is no child.

    a: the share of the tokens with both features on which the parent's latent is silent and the child's fires. b: the
    share of those with the parent alone on which the parent's is silent; a sparse code often is, for want of room, and
    that is no absorption. The rate is (a - b) / (1 - b), of the tokens on which the parent's would have fired those on
    which it does not (Abbott's correction), at least -1. It is 0 where the child's latent does not carry the parent: at
    least CARRIES as much of the parent's direction as of the child's. A feature's latent is the one with the largest
    cosine.

    codes (n, n_latents); decoder (n_latents, d); truth (n, n_features) true codes; features (n_features, d) true
    directions; pair: numbers of (parent, child). Only on data with known features is it defined (after Chanin et al.
    2409.14507). Raises ValueError where no token has both, or none the parent alone.
    """
    parent, child = pair
    of_parent, of_child = (int(n) for n in (decoder @ features[[parent, child]].T).argmax(0))
    has_parent, has_child = truth[:, parent] > 0, truth[:, child] > 0
    both, alone = has_parent & has_child, has_parent & ~has_child
    if not both.any() or not alone.any():
        raise ValueError(f"no token has both features {parent} and {child}, or none has the parent alone")
    of_each = torch.linalg.lstsq(features[[parent, child]].T, decoder[of_child]).solution
    if of_child == of_parent or of_each[0] < CARRIES * of_each[1]:
        return 0.0
    silent = codes[:, of_parent] <= 0
    instead = silent & (codes[:, of_child] > 0)
    a, b = float(instead[both].float().mean()), float(silent[alone].float().mean())
    return max(-1.0, (a - b) / (1 - b)) if b < 1 else 0.0


def ablated(x: torch.Tensor, codes: torch.Tensor, decoder: torch.Tensor, latents: torch.Tensor, mean: torch.Tensor):
    """x (n, d) with some latents at their mean (n_latents,); linear, so it holds for documents' means as for tokens.

    At zero, as SAEBench has it, all of x moves to where no probe was trained, and the intercept decides.
    """
    return x - (codes - mean)[:, latents] @ decoder[latents]


Concept = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def tpp(
    x: torch.Tensor, codes: torch.Tensor, decoder: torch.Tensor, concepts: Mapping[str, Concept], choose
) -> np.ndarray:
    """Targeted probe perturbation: accuracy that each concept's probe loses when a concept's latents are ablated.

    x (n_documents, d) and codes (n_documents, n_latents) are means over tokens. concepts: training documents, their
    labels, test documents, theirs. choose(codes, labels): the latents of a concept, from training documents. Returns
    (ablated concept, probed concept); its score is the diagonal's mean minus the rest's.
    """
    probes = {name: fit_probe(x[train], y) for name, (train, y, _, _) in concepts.items()}

    def accuracy(name: str, where: torch.Tensor) -> float:
        return float(((probes[name].scores(where) > 0).numpy() == concepts[name][3].astype(bool)).mean())

    lost = np.empty((len(concepts), len(concepts)))
    # Of training documents alone.
    mean = codes[np.unique(np.concatenate([train for train, *_ in concepts.values()]))].mean(0)
    for i, (train, y, _, _) in enumerate(concepts.values()):
        chosen = choose(codes[train], y)
        for j, (name, (_, _, test, _)) in enumerate(concepts.items()):
            without = ablated(x[test], codes[test], decoder, chosen, mean)
            lost[i, j] = accuracy(name, x[test]) - accuracy(name, without)
    return lost


def debiased(
    x: torch.Tensor, codes: torch.Tensor, decoder: torch.Tensor, wanted, spurious, train, test, latents: Sequence
) -> dict[str, np.ndarray]:
    """Whether a biased probe is right on each test document, (n_test,) of 1 and 0, after each ablation.

    The biased probe learns `wanted` from the training documents where both labels agree, so that `spurious` serves as
    well; "oracle" learns it from all of them. latents: sets of latents to hold at their mean, named by their size: "0"
    is the biased probe left alone. x (n_documents, d), codes (n_documents, n_latents); labels of all documents.
    """
    wanted, spurious = np.asarray(wanted).astype(bool), np.asarray(spurious).astype(bool)
    agree = train[wanted[train] == spurious[train]]
    biased, oracle = fit_probe(x[agree], wanted[agree]), fit_probe(x[train], wanted[train])
    mean = codes[train].mean(0)

    def right(probe: Probe, where: torch.Tensor) -> np.ndarray:
        return ((probe.scores(where) > 0).numpy() == wanted[test]).astype(float)

    found = {"oracle": right(oracle, x[test]), "0": right(biased, x[test])}
    for chosen in latents:
        found[str(len(chosen))] = right(biased, ablated(x[test], codes[test], decoder, chosen, mean))
    return found


def scr(x, codes, decoder, wanted: np.ndarray, spurious: np.ndarray, train, test, n: int) -> float:
    """Spurious correlation removal: share of the accuracy lost to a bias that ablating its n best latents brings back.

    As in `debiased`. Raises ProbeError where the bias costs nothing, so that nothing can be removed.
    """
    chosen = best_features(codes[train], np.asarray(spurious)[train], n)
    found = debiased(x, codes, decoder, wanted, spurious, train, test, [chosen])
    before, best, after = (found[name].mean() for name in ("0", "oracle", str(len(chosen))))
    if best <= before:
        raise ProbeError("the biased probe is as good as the oracle on these data, so there is nothing to remove")
    return float((after - before) / (best - before))
