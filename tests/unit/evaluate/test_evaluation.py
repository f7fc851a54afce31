"""A whole evaluation of a tiny catalogue, and the command."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mess import cli
from mess.demo.catalogue import DemoCatalogue, DemoTrack, FeatureBlock
from mess.evaluate import evaluation, plan, plot, table
from mess.evaluate import works as works_module
from mess.evaluate.evaluation import EvaluationOptions, TooFewTracksError
from mess.evaluate.listening import DAY, ListeningModel, listening_of_store, of_tallies, simulate_listening
from mess.evaluate.report import EvaluationReport
from store.popularity import StoredPopularity as StoredListening
from store.rows import ListRows, TrackVectors
from streams.strategies import popularity
from streams.strategies.aspects import Layout
from tests.unit.evaluate.helpers import groups, works

pytestmark = pytest.mark.unit


@cache
def measured(*strategies: str, **more: Any) -> EvaluationReport:
    """An evaluation of three groups of twelve; all strategies if none is named."""
    catalogue = groups()
    return evaluation.run_evaluation(
        catalogue,
        simulate_listening(len(catalogue), ListeningModel()),
        EvaluationOptions(entries=plan.planned_entries(strategies), **more),
    )


def test_similarity_beats_chance_and_popularity_alone() -> None:
    """Where the nearest are of the same form, precision says so, and the baselines are where chance is."""
    report = measured()
    (form,) = report.labels
    similar, chance, played = (report.line(name) for name in ("similarity", "chance", "most played"))
    assert similar is not None
    assert chance is not None
    assert played is not None
    assert similar.means["precision_form"].mean > 0.8
    assert chance.means["precision_form"].mean == pytest.approx(form.chance, abs=0.05)
    assert played.means["precision_form"].mean < 0.5
    assert played.hubs >= 10


def test_the_same_seed_gives_the_same_report() -> None:
    """Byte for byte; another seed draws others."""
    one, same, other = (json.dumps(measured(seeds=20, random_seed=seed).as_json()) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_popular_follows_the_listening() -> None:
    """Without any it is similarity; after some its lists rank high by it, and after other listening by that."""
    shift = measured("similarity", "popular").shift
    assert shift is not None
    assert shift.same_as_similarity
    assert shift.first_by_first > shift.before + 0.1
    assert shift.first_by_first > shift.second_by_first + 0.1
    assert shift.second_by_second > shift.first_by_second + 0.1


def test_stored_lists_are_what_similarity_is_measured_on() -> None:
    """Of a store, the lists that are served are held against the labels, right or wrong."""
    catalogue = groups()
    wrong = np.tile(np.arange(10), (len(catalogue), 1))
    stored = works(catalogue.vectors, [{"form": form} for form in catalogue.columns["form"]], lists=wrong)
    report = evaluation.run_evaluation(
        stored,
        simulate_listening(len(stored), ListeningModel()),
        EvaluationOptions(entries=plan.planned_entries(["similarity"])),
    )
    similar = report.line("similarity")
    assert similar is not None
    assert similar.counts.tolist() == [len(stored)] * 10 + [0] * (len(stored) - 10)


def test_one_track_is_too_few() -> None:
    """There is nothing to list."""
    with pytest.raises(TooFewTracksError):
        evaluation.run_evaluation(
            works(np.eye(1)),
            simulate_listening(1, ListeningModel()),
            EvaluationOptions(entries=plan.planned_entries()),
        )


def test_simulated_listening_follows_zipf() -> None:
    """Rank r of 1,000 tracks has 1 / (r H(1000)) of the listening, drawn to the mean by the prior as far as it counts."""
    found = np.sort(simulate_listening(1000, ListeningModel(per_track=500)).probability)[::-1]
    exponents = 1 / np.arange(1, 1001)
    exposed = popularity.HALF_LIFE / np.log(2)
    prior = popularity.PRIOR_STRENGTH / (popularity.PRIOR_STRENGTH + exposed)
    expected = (1 - prior) * exponents / exponents.sum() + prior / 1000
    assert found[:10] == pytest.approx(expected[:10], rel=0.1)
    assert found.sum() == pytest.approx(1)


def test_listening_of_a_store_is_decayed_to_its_latest_moment() -> None:
    """A like of long ago counts half after 30 days; a track that the store does not know of counts as unheard."""
    stored = StoredListening(
        version=1,
        keys=np.array([5, 6, 7]),
        created_at=np.zeros(3),
        values=np.array([4.0, 2.0, 0.0]),
        references=np.array([1000 * DAY, 1030 * DAY, 0.0]),
    )
    found = listening_of_store(stored, np.array([7, 6, 5, 9]))
    assert found is not None
    assert found.percentile[1] == found.percentile[2]
    assert found.percentile[0] < found.percentile[1]


def test_a_store_without_listening_has_none() -> None:
    """Then it is simulated."""
    stored = StoredListening(0, np.array([5]), np.zeros(1), np.zeros(1), np.zeros(1))
    assert listening_of_store(stored, np.array([5])) is None


def test_tracks_without_a_tally_were_never_listened_to() -> None:
    """They share the lowest percentile."""
    tallies = popularity.tally_interactions(np.array([1]), ["play"], np.zeros(1), 0.0)
    assert of_tallies(tallies, 3, "").percentile.tolist() == [0.25, 1.0, 0.25]


def test_a_store_becomes_rows_in_the_order_of_ids() -> None:
    """Lists refer to rows; a neighbour that has gone is an empty place; densities are means of scores."""
    tracks = TrackVectors(
        keys=np.array([30, 10, 20]),
        track_ids=["c", "a", "b"],
        vectors=np.eye(3, dtype=np.float32),
        partitions=np.zeros(3, dtype=np.int32),
        offsets=np.zeros(3, dtype=np.int64),
        event_times=np.zeros(3, dtype=np.int64),
    )
    lists = ListRows(
        keys=np.array([20, 30]),
        neighbours=np.array([[10, 30], [99, 10]]),
        scores=np.array([[0.75, 0.25], [0.5, 0.0]], dtype=np.float32),
        lengths=np.array([2, 2]),
        partitions=np.zeros(2, dtype=np.int32),
        offsets=np.zeros(2, dtype=np.int64),
        event_times=np.zeros(2, dtype=np.int64),
    )
    made, keys = works_module.works_of_store(tracks, {10: {"form": "jig"}}, lists, nearest=10)
    assert keys.tolist() == [10, 20, 30]
    assert made.track_ids == ["a", "b", "c"]
    assert made.vectors.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert made.columns["form"].tolist() == ["jig", None, None]
    assert made.lists is not None
    assert made.lists.tolist() == [[-1, -1], [0, 2], [-1, 0]]
    assert made.density is not None
    assert made.density.tolist() == [0.0, 0.5, 0.25]


def test_tables_and_picture_hold_every_line(tmp_path: Path) -> None:
    """Markdown has each strategy in each table, and the picture can be read back."""
    from matplotlib import image  # noqa: PLC0415 - the others need no matplotlib

    report = measured("similarity", "popular", hub_correction=1.0)
    text = table.as_markdown(report)
    for line in report.lines:
        assert text.count(f"| {line.name} |") >= 2
    for line in report.hubs:
        assert f"| {line.name} |" in text
    plot.draw_report(report, tmp_path / "out.png")
    assert image.imread(tmp_path / "out.png").std() > 0


@pytest.fixture
def tiny_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command evaluates a catalogue of 36 works."""
    catalogue = groups()
    tracks = [
        DemoTrack(track_id, {"form": form, "collection": "one"})
        for track_id, form in zip(catalogue.track_ids, catalogue.columns["form"], strict=True)
    ]
    demo = DemoCatalogue(catalogue.vectors, tracks, [FeatureBlock("all", 8, 1.0)], "0", Layout(8))
    monkeypatch.setattr("mess.demo.catalogue.load_demo_catalogue", lambda: demo)
    monkeypatch.delenv("MESS_DATABASE_URL", raising=False)


@pytest.mark.usefixtures("tiny_demo")
def test_the_command_prints_json() -> None:
    """One object on standard output, with a line for each strategy asked for and the baselines."""
    result = CliRunner().invoke(
        cli.build_cli(), ["evaluate", "--json", "--seeds", "12", "--strategy", "popular", "--processes", "1"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [line["name"] for line in found["strategies"]] == [
        "chance",
        "most played",
        "similarity",
        "popular",
    ]
    assert found["seeds"] == 12


@pytest.mark.usefixtures("tiny_demo")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "loudness"], "mess: --strategy: "),
        (["--plot", "/nowhere/out.png"], "mess: --plot: /nowhere is not a directory."),
        (["--plot", "out.unknown", "--seeds", "2", "--processes", "1"], "mess: --plot: "),
    ],
)
def test_the_command_fails_in_one_line(arguments: list[str], said: str) -> None:
    """What is wrong, and nothing else; exit status 2."""
    result = CliRunner().invoke(cli.build_cli(), ["evaluate", *arguments])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(said)


@pytest.mark.usefixtures("tiny_demo")
def test_without_matplotlib_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is computed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(cli.build_cli(), ["evaluate", "--plot", "out.png"])
    assert result.exit_code == 2
    assert "pip install 'mess-ai[plots]'" in result.stderr
