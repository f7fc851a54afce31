"""Folders of features in the seed project's layouts."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streams.contracts import TrackUpsert, parse_track_event
from streams.producers.axes import AxisReader, Pooling
from streams.producers.features import FeatureFolder
from streams.producers.items import RefusedRecord, SourceError, TrackItem
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions

pytestmark = pytest.mark.unit
RANDOM = np.random.default_rng(7)
SMD = "Bach_BWV849-01_001_20090916-SMD"


def features(*shape: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return random features."""
    return RANDOM.standard_normal(shape).astype(dtype)


def save(path: Path, array: npt.NDArray[Any]) -> None:
    """Save an array, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def read(
    folder: FeatureFolder, after: str | None = None
) -> tuple[dict[str, TrackUpsert], list[RefusedRecord]]:
    """Return what a folder sends, as validation reads it, and what it refuses."""
    sent: dict[str, TrackUpsert] = {}
    refused: list[RefusedRecord] = []
    for record in folder.records(after):
        if isinstance(record, TrackItem):
            upsert = parse_track_event(record.key, record.value, layout=None)
            assert isinstance(upsert, TrackUpsert)
            sent[upsert.track_id] = upsert
        elif record is not None:
            refused.append(record)
    return sent, refused


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axes"), [((13, 768), ()), ((4, 13, 768), (0,)), ((2, 13, 5, 768), (0, 2))]
)
def test_segments_and_time_are_averaged_in_every_layout(
    shape: tuple[int, ...], axes: tuple[int, ...], dtype: npt.DTypeLike
) -> None:
    """Mean averages layers, flatten keeps them in a row, a layer is one of them; all in float64."""
    array = features(*shape, dtype=dtype)
    layers = array.astype(np.float64).mean(axis=axes)
    roles = AxisReader().roles_of(shape)
    for pooling, expected in (
        (Pooling("mean"), layers.mean(axis=0)),
        (Pooling("flatten"), layers.ravel()),
        (Pooling(7), layers[7]),
    ):
        np.testing.assert_allclose(pooling.pool(array, roles), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "mode"),
    [("mean", "mean"), ("Flatten", "flatten"), ("layer 12", 12), ("layer:3", 3), ("layer0", 0), ("5", 5)],
)
def test_pooling_is_named_in_words(text: str, mode: object) -> None:
    """The option takes mean, flatten, and a layer in the usual spellings."""
    assert Pooling.parse(text).mode == mode


@pytest.mark.parametrize("text", ["median", "layer", "-1", ""])
def test_unknown_pooling_is_refused(text: str) -> None:
    """Another word, or a layer that is not there, is an error."""
    with pytest.raises(ValueError, match="layer"):
        Pooling.parse(text)


def test_wrong_files_are_refused_one_by_one_with_their_reasons(tmp_path: Path) -> None:
    """Shapes, types, NaN, zeros, damage and pickles are told apart, and the good file is sent."""
    save(tmp_path / "good.npy", features(13, 768))
    save(tmp_path / "transposed.npy", features(768, 13))
    save(tmp_path / "narrow.npy", features(13, 512))
    save(tmp_path / "two_ways.npy", features(13, 13, 768))
    save(tmp_path / "five_axes.npy", features(1, 1, 13, 1, 768))
    save(tmp_path / "no_segments.npy", features(0, 13, 768))
    save(tmp_path / "integers.npy", np.ones((13, 768), np.int64))
    save(tmp_path / "zero.npy", np.zeros((13, 768)))
    nan = features(13, 768)
    nan[3, 5] = np.nan
    save(tmp_path / "nan.npy", nan)
    save(tmp_path / "infinite.npy", np.full((2, 13, 768), np.inf))
    (tmp_path / "pickled.npy").write_bytes(b"")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("not numpy")
    (tmp_path / "empty.npy").write_bytes(b"")
    save(tmp_path / "cut.npy", features(13, 768))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:1000])
    sent, refused = read(FeatureFolder(tmp_path))
    assert sent.keys() == {"good", "transposed", "five_axes"}
    assert {refusal.where: refusal.reason for refusal in refused} == {
        "narrow.npy": "wrong_shape",
        "two_ways.npy": "wrong_shape",
        "no_segments.npy": "wrong_shape",
        "integers.npy": "wrong_shape",
        "zero.npy": "zero_vector",
        "nan.npy": "not_finite",
        "infinite.npy": "not_finite",
        "pickled.npy": "unreadable_file",
        "text.npy": "unreadable_file",
        "empty.npy": "unreadable_file",
        "cut.npy": "unreadable_file",
    }
    assert next(r.detail for r in refused if r.where == "two_ways.npy").endswith("--axes layers,time,width")


def test_a_track_in_several_layouts_is_sent_once_from_the_least_to_read(tmp_path: Path) -> None:
    """Layout folders hold the same tracks; the aggregated one is read, unless another is asked for."""
    aggregated, segments = features(13, 768), features(3, 13, 768)
    save(tmp_path / "smd" / "aggregated" / f"{SMD}.npy", aggregated)
    save(tmp_path / "smd" / "segments" / f"{SMD}.npy", segments)
    save(tmp_path / "smd" / "raw" / f"{SMD}.npy", features(3, 13, 2, 768))
    save(tmp_path / "segments" / "only.npy", segments)
    sent, refused = read(FeatureFolder(tmp_path))
    assert (sent.keys(), refused) == ({SMD, "only"}, [])
    expected = aggregated.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(sent[SMD].vector, expected / np.linalg.norm(expected), atol=1e-6)
    sent, _ = read(FeatureFolder(tmp_path, layout="segments"))
    np.testing.assert_allclose(sent[SMD].vector, sent["only"].vector, atol=1e-6)


def test_facts_come_from_the_table_then_the_file_name_then_the_folder(tmp_path: Path) -> None:
    """A row's value wins; what it lacks comes from a Saarland name, and the data set from the folder."""
    save(tmp_path / "classics" / f"{SMD}.npy", features(13, 768))
    save(tmp_path / "classics" / "unknown.npy", features(13, 768))
    table = MetadataTable.of([{"filename": f"{SMD}.wav", "title": "Prelude", "era": "", "mood": "calm"}])
    folder = FeatureFolder(tmp_path, table)
    sent, _ = read(folder)
    metadata = sent[SMD].metadata
    assert (metadata.title, metadata.era, metadata.opus) == ("Prelude", "Baroque", "BWV 849")
    assert metadata.extra == {"filename": f"{SMD}.wav", "mood": "calm"}
    assert sent["unknown"].metadata.dataset_source == "classics"
    assert folder.report.without_row.as_dict() == {"count": 1, "first": ["classics/unknown.npy"]}


def test_the_tables_track_id_wins(tmp_path: Path) -> None:
    """A row's own id names the track, whatever the file is called."""
    save(tmp_path / "x.npy", features(13, 768))
    sent, _ = read(FeatureFolder(tmp_path, MetadataTable.of([{"track_id": "t/1", "filename": "x.wav"}])))
    assert sent.keys() == {"t/1"}


def test_two_files_of_one_track_id_are_not_sent_over_each_other(tmp_path: Path) -> None:
    """The second is refused, and the first named."""
    save(tmp_path / "x.npy", features(13, 768))
    np.savez(tmp_path / "x.npz", embedding=features(13, 768))
    sent, refused = read(FeatureFolder(tmp_path))
    assert sent.keys() == {"x"}
    assert [(r.where, r.reason, r.detail) for r in refused] == [
        ("x.npz", "duplicate_track_id", "x.npy has the same track id")
    ]


def test_required_metadata_refuses_a_track_without_a_row(tmp_path: Path) -> None:
    """The others are sent."""
    save(tmp_path / "x.npy", features(13, 768))
    save(tmp_path / "y.npy", features(13, 768))
    options = EmbeddingOptions(require_metadata=True)
    sent, refused = read(FeatureFolder(tmp_path, MetadataTable.of([{"track_id": "x"}]), options))
    assert sent.keys() == {"x"}
    assert [(r.where, r.reason) for r in refused] == [("y.npy", "no_metadata")]


def test_a_bad_cell_costs_that_cell(tmp_path: Path) -> None:
    """A value that its field cannot mean is kept in `extra.raw`, and the track goes in."""
    save(tmp_path / "x.npy", features(13, 768))
    table = MetadataTable.of([{"track_id": "x", "duration_seconds": "abc", "title": "X"}])
    sent, refused = read(FeatureFolder(tmp_path, table))
    assert not refused
    assert (sent["x"].metadata.title, sent["x"].metadata.extra["raw"]) == ("X", {"duration_seconds": "abc"})


def test_a_run_goes_on_after_the_file_it_came_to(tmp_path: Path) -> None:
    """Positions are paths in order, so that files may come and go between runs."""
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.npy", features(13, 768))
    sent, _ = read(FeatureFolder(tmp_path), after="b.npy")
    assert sent.keys() == {"c"}


def test_folders_without_features_are_one_clear_error(tmp_path: Path) -> None:
    """A missing folder and an empty one are named."""
    with pytest.raises(SourceError, match="is not a folder"):
        FeatureFolder(tmp_path / "nothing")
    with pytest.raises(SourceError, match=r"holds no \.npy, \.npz or HDF5 files"):
        FeatureFolder(tmp_path)
