"""Parameters are checked before anything is touched, and the reader is told what is allowed."""

import pytest
from pydantic import Field

from papercore.study import parameters, rooms
from papercore.study.parameters import ParameterError


def test_the_cpu_profile_is_the_defaults_and_the_others_override_them(slug):
    assert parameters.resolve(slug, "cpu") == parameters.schema(slug)()
    assert parameters.resolve(slug, "smoke").probes == 3
    assert parameters.resolve(slug, "smoke", {"probes": 5}).probes == 5
    with pytest.raises(ParameterError, match=r"profiles/paper\.yaml is missing"):
        parameters.resolve(slug, "paper")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"leyer": 3}, r"no parameter 'leyer' \(value 3\); it has .*layer"),
        ({"layer": "8"}, r"layer = '8'.*valid integer"),
        ({"seed": -1}, r"seed = -1.*greater than or equal to 0"),
        ({"device": "tpu"}, r"device = 'tpu'"),
        ({"layers": [4, 0]}, r"layers\[1\] = 0.*greater than or equal to 1"),
        ({"probes": 1}, r"probes = 1.*greater than or equal to 2"),
        ({"layer": 3}, r"layer = 3 must be one of layers"),
        ({"profile": "huge"}, r"profile = 'huge'"),
    ],
)
def test_a_wrong_value_gets_one_sentence_with_name_value_and_range(slug, values, says):
    with pytest.raises(ParameterError, match=says) as err:
        parameters.check(slug, values)
    assert "\n" not in str(err.value)


def test_a_notebook_may_hold_modules_and_ipythons_own_names_but_no_other_plain_value(slug):
    import math

    fine = {"profile": "smoke", "math": math, "In": [""], "Out": {}, "_hidden": 3, "__name__": "__main__"}
    assert parameters.from_globals(slug, fine).profile == "smoke"
    with pytest.raises(ParameterError, match="temperature"):
        parameters.from_globals(slug, {**fine, "temperature": 0.5})


def test_unknown_papers_and_profiles_are_refused_with_what_there_is(slug):
    with pytest.raises(rooms.RoomError, match="the papers here are tiny"):
        parameters.resolve("tinny", "cpu")
    with pytest.raises(ParameterError, match="smoke, cpu, paper"):
        parameters.resolve(slug, "large")


def test_a_wrong_parameter_stops_study_before_its_folder_exists(slug, tmp_path, monkeypatch):
    from papercore.study.study import Study

    monkeypatch.setenv("PAPERCORE_RUN_DIR", str(tmp_path / "run"))
    with pytest.raises(ParameterError):
        Study.open(slug, parameters={"probes": 0})
    assert not (tmp_path / "run").exists()


def test_models_and_files_that_parameters_name_are_found_wherever_they_stand():
    class Marked(parameters.BaseParameters):
        model: parameters.ModelName = Field("one", min_length=1)
        others: list[parameters.ModelName] = Field(["two", "", "three"])
        texts: parameters.UserFile | None = None
        table: parameters.UserFile = ""
        title: str = "not a name"

    assert parameters.named(Marked(), "model") == [("model", "one"), ("others", "two"), ("others", "three")]
    assert parameters.named(Marked(), "file") == []
    assert parameters.named(Marked(texts="a.csv", table="b.csv"), "file") == [("texts", "a.csv"), ("table", "b.csv")]
