"""The recorded run: `python -m papercore.papers.self_debugging.recording` makes it, or goes on with what was stopped.

It is the cpu profile's run with every answer and every program's end made anew, on this machine. Unfinished work lies
in .papercore/recording/; what is finished is copied beside this file, with a recipe.
"""

from __future__ import annotations

import json
import shutil
import time
from importlib import resources
from pathlib import Path

from papercore.papers.self_debugging import experiment
from papercore.papers.self_debugging.debugging import Facts
from papercore.papers.self_debugging.generation import Store
from papercore.study import parameters, provenance

COMMAND = "python -m papercore.papers.self_debugging.recording"


def record(folder: Path) -> None:
    """Make the recording with the cpu profile's parameters; every finished batch is kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    p = parameters.resolve("self_debugging", "cpu", {"source": "live", "device": "cpu"})
    started, log = time.monotonic(), folder / "seconds.json"
    before = json.loads(log.read_text()) if log.is_file() else 0.0

    def say(text: str) -> None:
        print(f"{before + time.monotonic() - started:6.0f} s  {text}", flush=True)
        log.write_text(json.dumps(before + time.monotonic() - started))

    store = Store(file=folder / "generations.parquet")
    opened = experiment.open_bench(p, store=store, facts=Facts(file=folder / "facts.parquet"), progress=say)
    r = experiment.run(opened, p)
    say("answers are made; every fact that a claim needs")
    tables = experiment.samples(r, p)
    opened.bench.facts.save()
    out = Path(str(resources.files(__package__))) / "recorded"
    out.mkdir(exist_ok=True)
    used = store.table[store.table["key"].isin(store.used)]
    used.to_parquet(out / "generations.parquet", index=False, compression="zstd")
    shutil.copy(folder / "facts.parquet", out / "facts.parquet")
    passes = r.passes.astype(int).rename_axis("unit").reset_index()
    passes.to_csv(out / "passes.csv", index=False)
    say("done")
    about = {
        "command": COMMAND,
        "model": p.model,
        "answers": len(used),
        "new_tokens": int(used["tokens"].sum()),
        "programs": int(opened.bench.facts.table["program"].nunique()),
        "claims": sorted(tables),
        "seconds": round(before + time.monotonic() - started),
        "isolation": opened.isolation.level,
        "hardware": provenance.collect("self_debugging", 0)["hardware"],
    }
    (out / "recipe.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(Path(".papercore") / "recording")
