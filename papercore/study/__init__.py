"""Floor `study`: what makes a notebook a reproduction: claims, statistics, verdicts, ledger, figures, provenance.

May import `assets` only. Nothing here imports torch, and nothing heavy is imported before it is used.
"""


def __getattr__(name: str):
    if name == "Study":
        from papercore.study.study import Study

        return Study
    raise AttributeError(f"module 'papercore.study' has no attribute {name!r}")
