"""Synthetic scores for SLUG, with and without a known effect. Floor: papers."""

import numpy as np
import pandas as pd


def scores(n_texts: int, effect: float, seed: int) -> pd.DataFrame:
    """Scores of the same texts plain and treated: columns unit, plain, treated, shuffled, n_texts rows.

    `treated` is `plain` plus noise plus `effect` standard deviations. `shuffled` is the control: in a random half of
    the texts the two are swapped and `shuffled - plain` is centred on zero, whatever the effect.
    """
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=n_texts)
    rise = effect + 0.5 * rng.normal(size=n_texts)
    signs = rng.permutation(np.resize([-1.0, 1.0], n_texts))
    return pd.DataFrame(
        {"unit": np.arange(n_texts), "plain": plain, "treated": plain + rise, "shuffled": plain + signs * rise}
    )
