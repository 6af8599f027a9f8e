"""Changes to the demo room: what its profiles cost, what its parameters name, what answers it."""

import json
import re


def cut_off(tree) -> None:
    """Nothing answers this checkout: neither an index nor the hub."""
    unset = ("pip_", "hf_", "cuda_visible_devices")
    kept = (name for name in tree.env if not name.lower().startswith(unset) and not name.lower().endswith("_proxy"))
    tree.env = {name: tree.env[name] for name in kept}
    tree.env |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "HF_ENDPOINT": "http://127.0.0.1:9"}


def room(tree, file: str):
    return tree.root / "papercore" / "papers" / "demo" / file


def declare(tree, **cost) -> None:
    """Change what the demo's profiles cost."""
    path = room(tree, "claims.yaml")
    text, count = re.subn(
        r"\{minutes: .*\}",
        json.dumps({"minutes": 0.2, "memory_gb": 0.3, "disk_gb": 0.01} | cost).replace('"', ""),
        path.read_text(),
    )
    assert count == 3
    path.write_text(text)


def ask(tree, kind: str, value: str) -> None:
    """Give the demo a parameter `extra` that names a file or model."""
    path = room(tree, "parameters.py")
    text = path.read_text().replace("import BaseParameters", "import BaseParameters, ModelName, UserFile")
    path.write_text(f"{text}    extra: {kind} = Field({value!r}, description='of the test')\n")
    book = tree.notebook()
    old = "# true rise of the mean score, in standard deviations"
    assert old in book.read_text()
    book.write_text(book.read_text().replace(old, old + f"\\nextra = '{value}'  # of the test"))
