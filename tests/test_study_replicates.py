"""What all studies share: targets, and replicates that are kept and taken up again."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from sklearn.ensemble import HistGradientBoostingRegressor

from bench import replicates
from bench.replicates import Kept, Point, Record, play_all
from bench.targets import Target, conclude


def test_a_target_s_line() -> None:
    assert str(Target("name", 19, 20)) == "target name 19 20 short"
    assert str(Target("name", 0.95, 0.95)) == "target name 0.95 0.95 ok"
    assert str(Target("name", 0, 0, strict=True)) == "target name 0 0 short"
    assert str(Target("name", 0.04, 0.05, at_most=True)) == "target name 0.04 0.05 ok"
    assert str(Target("name", 0.06, 0.05, at_most=True)) == "target name 0.06 0.05 short"
    assert str(Target("name", 0, 0, at_most=True, strict=True)) == "target name 0 0 short"
    assert str(Target("name", math.nan, 0)) == "target name nan 0 short"


@pytest.mark.parametrize(("figure", "status"), [(1.0, 0), (-1.0, 1)])
def test_the_exit_status_says_whether_all_hold(figure: float, status: int) -> None:
    with pytest.raises(typer.Exit) as left:
        conclude([Target("good", 1, 0), Target("other", figure, 0)])
    assert left.value.exit_code == status


def square(folder: Path, number: int) -> Record:
    """A replicate that leaves a trace of having been played."""
    with (folder / "played").open("a") as file:
        file.write(f"{number}\n")
    return {"square": number**2}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    return Kept("testing", ["bench/targets.py"])


def test_replicates_are_played_once_and_more_are_added(kept: Kept, tmp_path: Path) -> None:
    play = partial(square, tmp_path)
    for count in (5, 5, 8):
        found = play_all([Point("squares", play, count, batch=2)], kept, processes=1)
        assert found == {"squares": [{"square": n**2} for n in range(count)]}
    played = (tmp_path / "played").read_text().split()
    assert sorted(map(int, played)) == list(range(8))


def test_a_line_that_a_kill_cut_off_is_played_again(kept: Kept, tmp_path: Path) -> None:
    point = Point("squares", partial(square, tmp_path), 3)
    kept.add(point, [(0, {"square": 0}), (1, {"square": 1})])
    file = next(kept.folder.glob("*.jsonl"))
    file.write_text(file.read_text().rstrip()[:-4])
    assert set(kept.read(point)) == {0}
    assert play_all([point], kept, processes=1)["squares"] == [{"square": 0}, {"square": 1}, {"square": 4}]
    assert set(kept.read(point)) == {0, 1, 2}


def test_time_that_is_up_leaves_the_rest_for_another_run(kept: Kept, tmp_path: Path) -> None:
    point = Point("squares", partial(square, tmp_path), 3)
    with pytest.raises(typer.Exit) as left:
        play_all([point], kept, processes=1, minutes=0)
    assert left.value.exit_code == replicates.UNFINISHED
    assert not kept.read(point)


def test_changed_code_has_its_own_results() -> None:
    assert replicates.digest_of(["bench/targets.py"]) != replicates.digest_of(["bench/replicates.py"])
    assert replicates.digest_of(["bench/targets.py"]) == replicates.digest_of(["bench/targets.*"])


def learned(_: int) -> Record:
    """A replicate that learns on OpenMP's threads."""
    inputs = np.arange(400.0).reshape(-1, 1)
    model = HistGradientBoostingRegressor(max_iter=2).fit(inputs, inputs[:, 0])
    return {"half": float(model.predict([[200.0]])[0])}


def test_replicates_learn_where_their_parent_has_learned_before(kept: Kept) -> None:
    """Its threads would not be there after a fork, and be waited for."""
    here = learned(0)
    assert play_all([Point("learned", learned, 2)], kept) == {"learned": [here, here]}
