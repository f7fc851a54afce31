"""Small inputs of every kind that `mess publish` reads, and what becomes of them.

`python -m tests.unit.producers.input_kinds` writes the table of docs/inputs.md.
"""

import gzip
import json
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from streams.contracts import TrackUpsert, parse_track_event
from streams.producers.axes import Pooling, parse_axes
from streams.producers.columns import parse_map
from streams.producers.items import RefusedRecord, SourceError, TrackItem
from streams.producers.sources import SourceOptions, open_source
from streams.producers.tracks import EmbeddingOptions
from streams.strategies.aspects import Layout

PAGE = Path(__file__).parents[3] / "docs" / "inputs.md"
WIDTH, LAYERS = 8, 3
VECTORS = {name: np.random.default_rng(at).standard_normal(WIDTH) for at, name in enumerate("abc")}
NFD = unicodedata.normalize("NFD", "Dvořák")


def spread(name: str, *sizes: int, axes: tuple[int, ...] = ()) -> npt.NDArray[np.float64]:
    """An array whose mean over all axes but the last is a track's vector, its axes transposed as `axes` says."""
    noise = np.random.default_rng(99).standard_normal((*sizes, WIDTH))
    array = VECTORS[name] + noise - noise.mean(axis=tuple(range(len(sizes))))
    return array.transpose(axes) if axes else array


@dataclass(frozen=True)
class InputKind:
    """An input: what it is, the options it is published with, and what makes it in a folder and returns its path."""

    what: str
    options: str
    make: Callable[[Path], Path]


KINDS: list[InputKind] = []
Make = Callable[[Path], Path | None]


def kind(what: str, options: str = "") -> Callable[[Make], Make]:
    """Register an input; what returns no path is a folder."""

    def register(make: Make) -> Make:
        KINDS.append(InputKind(what, options, lambda folder: make(folder) or folder))
        return make

    return register


def save(path: Path, array: npt.ArrayLike) -> None:
    """Save an array, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array))
    if path.suffix != ".npy":
        path.with_name(path.name + ".npy").rename(path)


def two(folder: Path) -> None:
    """Two files of vectors, a and b."""
    save(folder / "a.npy", VECTORS["a"])
    save(folder / "b.npy", VECTORS["b"])


def matrix() -> npt.NDArray[np.float64]:
    """A row a track."""
    return np.stack(list(VECTORS.values()))


# Arrays, one file a track.


@kind("folder of `.npy`, one vector `(d,)`")
def _(folder: Path) -> None:
    two(folder)


@kind("folder of `.NPY`, suffix in upper case")
def _(folder: Path) -> None:
    save(folder / "a.NPY", VECTORS["a"])


@kind("folder of `.npy`, frames `(n, d)`, n differs")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 5))
    save(folder / "b.npy", spread("b", 9))


@kind("folder of `.npy`, frames `(d, n)`, n differs")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 5).T)
    save(folder / "b.npy", spread("b", 9).T)


@kind("folder of `.npy`, `(n, d)`, all of one shape")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 5))
    save(folder / "b.npy", spread("b", 5))


@kind("the same", "--axes time,width")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 5))
    save(folder / "b.npy", spread("b", 5))


@kind("folder of `.npy`, `(layers, d)`", "--layers 3 --width 8")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", LAYERS))


@kind("folder of `.npy`, `(layers, t, d)`", "--layers 3 --width 8")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", LAYERS, 5))


@kind("folder of `.npy`, `(t, d, layers)`", "--layers 3 --width 8")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", LAYERS, 5, axes=(1, 2, 0)))


@kind("folder of `.npy`, `(n, layers, t, d)`", "--layers 3 --width 8")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 2, LAYERS, 5))


@kind("folder of `.npy`, `(3, 3, 8)`: layers or time?", "--layers 3 --width 8")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 3, 3))


@kind("the same", "--layers 3 --width 8 --axes layers,time,width")
def _(folder: Path) -> None:
    save(folder / "a.npy", spread("a", 3, 3))


@kind("float16, big-endian float32, Fortran order, a view with gaps")
def _(folder: Path) -> None:
    save(folder / "a.npy", VECTORS["a"].astype(np.float16))
    save(folder / "b.npy", VECTORS["b"].astype(">f4"))
    save(folder / "c.npy", np.asfortranarray(spread("c", 1)))


@kind("integers, text, NaN, all zeros, an empty array, a damaged file", "")
def _(folder: Path) -> None:
    save(folder / "integers.npy", np.arange(8))
    save(folder / "text.npy", np.array(["a"]))
    save(folder / "nan.npy", np.full(8, np.nan))
    save(folder / "zeros.npy", np.zeros(8))
    save(folder / "empty.npy", np.zeros((0, 8)))
    (folder / "damaged.npy").write_bytes(b"\x93NUMPY")


@kind("folder of `.npz`, one array each")
def _(folder: Path) -> None:
    np.savez(folder / "a.npz", embedding=VECTORS["a"], sr=np.array(44100))


@kind("folder of `.npz`, two arrays each")
def _(folder: Path) -> None:
    np.savez(folder / "a.npz", mean=VECTORS["a"], std=VECTORS["b"])


@kind("the same", "--key mean")
def _(folder: Path) -> None:
    np.savez(folder / "a.npz", mean=VECTORS["a"], std=VECTORS["b"])


@kind("folder of `.h5`")
def _(folder: Path) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        file["features/embedding"] = VECTORS["a"]


@kind("`A/01 Intro.npy` and `B/01 Intro.npy`")
def _(folder: Path) -> None:
    save(folder / "A" / "01 Intro.npy", VECTORS["a"])
    save(folder / "B" / "01 Intro.npy", VECTORS["b"])


# Many tracks in one file.


@kind("`.npy` of `(N, d)` without ids")
def _(folder: Path) -> Path:
    save(folder / "all.npy", matrix())
    return folder / "all.npy"


@kind("`.npy` of `(N, d)`, ids a line each", "--ids DIR/names.txt")
def _(folder: Path) -> Path:
    save(folder / "all.npy", matrix())
    (folder / "names.txt").write_text("a\nb\nc\n")
    return folder / "all.npy"


@kind("`.npy` of `(N, d)`, `all.ids.txt` beside it")
def _(folder: Path) -> Path:
    save(folder / "all.npy", matrix())
    (folder / "all.ids.txt").write_text("a\nb\nc\n")
    return folder / "all.npy"


@kind("`.npy` of `(N, d)`, a table beside it with a row a track")
def _(folder: Path) -> Path:
    save(folder / "all.npy", matrix())
    (folder / "all.csv").write_text("track_id,title\na,A\nb,B\nc,C\n")
    return folder / "all.npy"


@kind("`.npy` of 3 rows, 2 ids", "--ids DIR/names.txt")
def _(folder: Path) -> Path:
    save(folder / "all.npy", matrix())
    (folder / "names.txt").write_text("a\nb\n")
    return folder / "all.npy"


@kind("`.npy` of `(N, t, d)` with ids", "--ids DIR/ids.json --axes time,width")
def _(folder: Path) -> Path:
    save(folder / "all.npy", np.stack([spread(name, 4) for name in "abc"]))
    (folder / "ids.json").write_text('["a", "b", "c"]')
    return folder / "all.npy"


@kind("`.npz` of an array and its ids")
def _(folder: Path) -> Path:
    np.savez(folder / "all.npz", embeddings=matrix(), ids=np.array(["a", "b", "c"]))
    return folder / "all.npz"


@kind("`.npz` of an array a track")
def _(folder: Path) -> Path:
    np.savez(folder / "all.npz", **VECTORS)
    return folder / "all.npz"


@kind("`.h5` of an array and its ids (bytes)")
def _(folder: Path) -> Path:
    with h5py.File(folder / "all.h5", "w") as file:
        file["embeddings"] = matrix().astype(np.float32)
        file["track_ids"] = np.array([b"a", b"b", b"c"])
    return folder / "all.h5"


@kind("`.hdf5` of a group a track", "--key embedding")
def _(folder: Path) -> Path:
    with h5py.File(folder / "all.hdf5", "w") as file:
        for name, vector in VECTORS.items():
            file[f"{name}/embedding"] = vector
            file[f"{name}/tempo"] = 120.0
    return folder / "all.hdf5"


def rows() -> dict[str, Any]:
    """Columns of three tracks."""
    return {"track_id": list("abc"), "embedding": matrix().tolist(), "title": ["A", "B", "C"]}


@kind("Parquet, a column of lists")
def _(folder: Path) -> Path:
    pa.parquet.write_table(pa.table(rows()), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Parquet, lists of one length, of half floats, several row groups")
def _(folder: Path) -> Path:
    flat = pa.array(matrix().astype(np.float16).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, WIDTH)
    pa.parquet.write_table(
        pa.table({**rows(), "embedding": column}), folder / "all.PARQUET", row_group_size=2
    )
    return folder / "all.PARQUET"


@kind("Parquet, lists of lists (frames)")
def _(folder: Path) -> Path:
    frames = [spread(name, 3 + at).tolist() for at, name in enumerate("abc")]
    pa.parquet.write_table(pa.table({**rows(), "embedding": frames}), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Parquet, a column a component (`f0` to `f7`), ids that are whole numbers")
def _(folder: Path) -> Path:
    table = {"id": [1, 2, 3], **{f"f{at}": matrix()[:, at] for at in range(WIDTH)}}
    pa.parquet.write_table(pa.table(table), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Parquet, two columns of lists")
def _(folder: Path) -> Path:
    pa.parquet.write_table(
        pa.table({"track_id": ["a"], "clap": [[1.0, 2.0]], "mert": [VECTORS["a"]]}), folder / "all.parquet"
    )
    return folder / "all.parquet"


@kind("the same", "--key mert")
def _(folder: Path) -> Path:
    pa.parquet.write_table(
        pa.table({"track_id": ["a"], "clap": [[1.0, 2.0]], "mert": [VECTORS["a"]]}), folder / "all.parquet"
    )
    return folder / "all.parquet"


@kind("Parquet, a row without a vector, one without an id, one twice")
def _(folder: Path) -> Path:
    table = {"track_id": ["a", "b", None, "a"], "embedding": [VECTORS["a"], None, VECTORS["c"], VECTORS["a"]]}
    pa.parquet.write_table(pa.table(table), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Parquet, columns of other names", "--map track_id=uid --map title=label")
def _(folder: Path) -> Path:
    table = {"uid": ["a"], "label": ["A"], "vec": [VECTORS["a"]], "mood": ["calm"]}
    pa.parquet.write_table(pa.table(table), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Parquet, a column `duration_ms`", "--map title=label")
def _(folder: Path) -> Path:
    table = {"id": ["a"], "label": ["A"], "vec": [VECTORS["a"]], "duration_ms": [225_500]}
    pa.parquet.write_table(pa.table(table), folder / "all.parquet")
    return folder / "all.parquet"


@kind("Feather")
def _(folder: Path) -> Path:
    pa.feather.write_feather(pa.table(rows()), folder / "all.feather")
    return folder / "all.feather"


@kind("an Arrow stream")
def _(folder: Path) -> Path:
    table = pa.table(rows())
    with pa.OSFile(str(folder / "all.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return folder / "all.arrow"


# JSON lines.


def events(names: str = "abc") -> bytes:
    """Track events, a line each."""
    lines = [
        {"track_id": name, "embedding": VECTORS[name].tolist(), "metadata": {"title": name}} for name in names
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@kind("JSON lines of track events")
def _(folder: Path) -> Path:
    (folder / "t.jsonl").write_bytes(events())
    return folder / "t.jsonl"


@kind("`.jsonl.gz`")
def _(folder: Path) -> Path:
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(events()))
    return folder / "t.jsonl.gz"


@kind("`.JSONL.ZST`")
def _(folder: Path) -> Path:
    with pa.output_stream(str(folder / "t.JSONL.ZST"), compression="zstd") as file:
        file.write(events())
    return folder / "t.JSONL.ZST"


@kind("JSON lines of flat rows")
def _(folder: Path) -> Path:
    row = {"id": "a", "vector": VECTORS["a"].tolist(), "title": "A", "mood": "calm"}
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "t.jsonl"


@kind("JSON lines, a cell that cannot be read")
def _(folder: Path) -> Path:
    row = {"track_id": "a", "embedding": VECTORS["a"].tolist(), "metadata": {"year_composed": "long ago"}}
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "t.jsonl"


@kind("the same", "--strict")
def _(folder: Path) -> Path:
    row = {"track_id": "a", "embedding": VECTORS["a"].tolist(), "metadata": {"year_composed": "long ago"}}
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "t.jsonl"


# Tables of metadata, joined to a folder with `a.npy` and `b.npy`.


def table(what: str, name: str, content: str | bytes, options: str = "") -> None:
    """Register a table beside a folder of two tracks."""

    @kind(f"table: {what}", f"--metadata DIR/{name} {options}".strip())
    def _(folder: Path) -> Path:
        two(folder / "features")
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / "features"


PLAIN = "track_id,title,year_composed\na,A,1722\nb,B,1725\n"
table("CSV with commas", "t.csv", PLAIN)
table("CSV with semicolons and quotes", "t.csv", 'track_id;title\na;"A; \'quoted\'"\nb;"B ""x"""\n')
table("TSV", "T.TSV", PLAIN.replace(",", "\t"))
table("CSV with bars", "t.csv", PLAIN.replace(",", "|"))
table("CSV with `sep=;` on its first line", "t.csv", "sep=;\ntrack_id;title\na;A\nb;B\n")
table("CSV, byte order mark, CRLF", "t.csv", ("\ufeff" + PLAIN).replace("\n", "\r\n"))
table("CSV in UTF-16", "t.csv", PLAIN.encode("utf-16"))
table(
    "CSV in Windows-1252", "t.csv", "track_id,title\na,Dvořák\nb,Señor\n".replace("ř", "r").encode("cp1252")
)
table(
    "CSV in MacRoman", "t.csv", "track_id,title\na,Señor\n".encode("mac_roman"), "--table-encoding mac_roman"
)
table("CSV, compressed", "t.csv.gz", gzip.compress(PLAIN.encode()))
table("CSV, a quoted newline, a short row", "t.csv", 'track_id,title,era\na,"A\nB",Baroque\nb,B\n')
table("CSV, a row too long", "t.csv", "track_id,title\na,A,x\n")
table("CSV without rows", "t.csv", "track_id,title\n")
table("CSV that names no track", "t.csv", "title,era\nA,Baroque\n")
table("the same", "t.csv", "title,era\na,Baroque\n", "--map path=title")
table("JSON records", "t.json", '[{"track_id": "a", "title": "A"}, {"track_id": "b"}]')
table("JSON by columns", "t.json", '{"track_id": {"0": "a", "1": "b"}, "title": {"0": "A", "1": "B"}}')
table(
    "JSON split",
    "t.json",
    '{"columns": ["track_id", "title"], "index": [0, 1], "data": [["a", "A"], ["b", "B"]]}',
)
table("JSON by track", "t.json", '{"a": {"title": "A"}, "b": {"title": "B"}}')
table("JSON lines", "t.jsonl", '{"track_id": "a", "title": "A"}\n{"track_id": "b", "title": "B"}\n')
table("a row without a track, a track without a row", "t.csv", "track_id,title\na,A\nz,Z\n")
table("the same", "t.csv", "track_id,title\na,A\nz,Z\n", "--require-metadata")
table("two rows of one id", "t.csv", "track_id,title\na,A\na,again\nb,B\n")
table("ids typed as floats", "t.csv", "track_id,filename\n1.0,a.wav\n2.0,b.wav\n")


@kind("table: Parquet", "--metadata DIR/t.parquet")
def _(folder: Path) -> Path:
    two(folder / "features")
    pa.parquet.write_table(pa.table({"track_id": ["a", "b"], "title": ["A", "B"]}), folder / "t.parquet")
    return folder / "features"


def files(
    what: str, names: dict[str, str], content: str, options: str = "", table_name: str = "t.csv"
) -> None:
    """Register a table beside a folder of files of certain names."""

    @kind(what, f"--metadata DIR/{table_name} {options}".strip())
    def _(folder: Path) -> Path:
        for name, vector in names.items():
            save(folder / "features" / name, VECTORS[vector])
        (folder / table_name).write_text(content, encoding="utf-8")
        return folder / "features"


files("join: `B/01 Intro.npy` alone, rows of A and B", {"B/01 Intro.npy": "b"},
      "path,title\nA/01 Intro.mp3,of A\nB/01 Intro.mp3,of B\n")  # fmt: skip
files("join: both", {"A/01 Intro.npy": "a", "B/01 Intro.npy": "b"},
      "path,title\nA/01 Intro.mp3,of A\nB/01 Intro.mp3,of B\n")  # fmt: skip
files("join: `01 Intro.npy`, rows of A and B", {"01 Intro.npy": "a"},
      "path,title\nA/01 Intro.mp3,of A\nB/01 Intro.mp3,of B\n")  # fmt: skip
files("join: one row, two files", {"A/x.npy": "a", "B/x.npy": "b"}, "filename,title\nx.wav,X\n")
files("join: double suffixes, `.opus`, `.wma`, `.webm`", {"song.mp3.npy": "a", "clip.npy": "b", "noise.webm.npy": "c"},
      "filename,title\nsong.mp3,S\nclip.opus,C\nnoise.webm,N\n")  # fmt: skip
files("join: a composed name in the table, a decomposed one on disk", {f"{NFD}.npy": "a"},
      "filename,title\nDvořák.wav,D\n")  # fmt: skip
files("join: `000002.npy`, the table's id is 2", {"000002.npy": "a"}, "track_id,title\n2,Two\n20,Twenty\n")

files("preset: MAESTRO", {"2018/x.npy": "a"},
      "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration\n"
      "Franz Schubert / Franz Liszt,Ständchen,train,2018,2018/x.midi,2018/x.wav,698.6\n",
      table_name="maestro-v3.0.0.csv")  # fmt: skip
files("preset: FMA, three header rows", {"000002.npy": "a"},
      ",album,artist,set,track,track,track,track\n,title,name,split,duration,genre_top,title,tags\ntrack_id,,,,,,,\n"
      "2,First,Anna,training,168,Jazz,Opening,\"['a', 'b, c']\"\n")  # fmt: skip
files("preset: MTG-Jamendo, tags that go on", {"track_0000001.npy": "a", "2.npy": "b"},
      "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\ntrack_0000001\tartist_1\talbum_1\t01/1.mp3\t124.6\tgenre---jazz\n"
      "track_0000002\tartist_2\talbum_2\t02/2.mp3\t211.1\tgenre---classical\tinstrument---voice\n",
      table_name="t.tsv")  # fmt: skip
files("preset: Spotify, several artists, an index column", {"a.npy": "a"},
      ",track_id,artists,album_name,track_name,popularity,duration_ms,key,mode,track_genre\n"
      "0,a,\"Bert;Carla\",Live,Song,55,149610,1,0,acoustic\n")  # fmt: skip
files("preset: Last.fm, weighted tags", {"a.npy": "a"},
      '[{"artist": "Anna", "timestamp": "2011", "similars": [["x", 0.99]], "tags": [["soul", "100"], ["pop", "80"]], '
      '"track_id": "a", "title": "T"}]', table_name="t.json")  # fmt: skip
files("preset: beets", {"a.npy": "a"},
      '[{"id": 7, "path": "/music/a.flac", "title": "T", "artist": "Anna", "length": "3:45", "genre": "Jazz", '
      '"mb_trackid": "b1a9c0e9-d987-4042-ae91-78d6a3267d69", "isrc": "US-RC1-76-07839"}]', table_name="t.json")  # fmt: skip
files("preset: MusicBrainz recordings", {"b1a9c0e9-d987-4042-ae91-78d6a3267d69.npy": "a"},
      '[{"id": "b1a9c0e9-d987-4042-ae91-78d6a3267d69", "title": "T", "length": 225000, "artist-credit": [{"name": "Bert", '
      '"joinphrase": " & ", "artist": {"id": "24f1766e-9635-4d58-a4d4-9413f9f98a4c"}}, {"name": "Carla"}]}]',
      table_name="t.json")  # fmt: skip


@kind("a CSV file of its own")
def _(folder: Path) -> Path:
    (folder / "t.csv").write_text(PLAIN)
    return folder / "t.csv"


@kind("a folder of `.npy` and of what is no array")
def _(folder: Path) -> Path:
    np.save(folder / "a.npy", VECTORS["a"])
    for name in ("b.pt", "c.npy.gz", "README.md", ".hidden"):
        (folder / name).write_bytes(b"PK")
    return folder


@kind("a folder of Parquet files")
def _(folder: Path) -> Path:
    for part in range(2):
        pa.parquet.write_table(pa.table(rows()), folder / f"part-{part}.parquet")
    return folder


@kind("an empty folder")
def _(folder: Path) -> None:
    del folder


def options_of(text: str, folder: Path) -> SourceOptions:
    """Return the options that a command line gives."""
    words = text.replace("DIR", str(folder)).split()
    given: dict[str, list[str]] = {}
    flags = {"--strict", "--require-metadata"}
    while words:
        name = words.pop(0)
        given.setdefault(name, []).append("" if name in flags else words.pop(0))

    def one(name: str) -> str | None:
        return given[name][0] if name in given else None

    def number(name: str) -> int | None:
        return int(given[name][0]) if name in given else None

    axes, metadata, ids = one("--axes"), one("--metadata"), one("--ids")
    return SourceOptions(
        embeddings=EmbeddingOptions(
            pooling=Pooling(),
            axes=parse_axes(axes) if axes else None,
            layers=number("--layers"),
            width=number("--width"),
            key=one("--key"),
            strict="--strict" in given,
            require_metadata="--require-metadata" in given,
        ),
        metadata=Path(metadata) if metadata else None,
        wanted=parse_map(given.get("--map", [])),
        table_encoding=one("--table-encoding"),
        ids=Path(ids) if ids else None,
    )


def outcome(each: InputKind, folder: Path) -> str:
    """What became of an input, on one line."""
    path = each.make(folder)
    try:
        source = open_source(path, options_of(each.options, folder))
        records = [record for record in source.records(None) if record is not None]
    except SourceError as error:
        return f"error: {error}".replace(f"{folder}/", "").replace(str(folder), "DIR")
    sent = [_sent(record) for record in records if isinstance(record, TrackItem)]
    refused = [f"refused {r.where}: {r.reason}: {r.detail}" for r in records if isinstance(r, RefusedRecord)]
    return "; ".join([*sent, *refused, *source.report.lines()]).replace(f"{folder}/", "")


def _sent(item: TrackItem) -> str:
    upsert = parse_track_event(item.key, item.value, layout=Layout(WIDTH))
    assert isinstance(upsert, TrackUpsert)
    units = {name: vector / np.linalg.norm(vector) for name, vector in VECTORS.items()}
    of = [name for name, unit in units.items() if np.allclose(unit, upsert.vector, atol=2e-3)]
    facts = {
        name: value
        for name, value in upsert.metadata.present().items()
        if name != "artists" or len(value) > 1
    }
    extra = facts.pop("extra", {})
    extra.pop("filename", None)
    said = ", ".join(f"{name} {value}" for name, value in (facts | extra).items())
    return f"`{upsert.track_id}` (vector {of[0] if of else 'WRONG'}{', ' + said if said else ''})"


def row(each: InputKind, folder: Path) -> str:
    """A line of the table: an input and what became of it."""
    options = f"`{each.options}`" if each.options else ""
    cells = (each.what, options, outcome(each, folder))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "⏎") for cell in cells) + " |"


def page() -> str:
    """The page: each input and what became of it."""
    lines = []
    for each in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row(each, Path(folder)))
    return HEAD + "\n".join(lines) + "\n"


HEAD = """\
# Inputs of `mess publish`

Every row is a small input that a test makes and reads, in this order: what it is, the options it is
published with, and what became of it. `DIR` is its folder. Each track that is sent is shown with
its id, which vector it got (the arrays are made so that the right reading gives the vector `a`, `b`
or `c`), and its metadata. A test makes this table anew and compares;
`python -m tests.unit.producers.input_kinds` writes it.

| input | options | what became of it |
|---|---|---|
"""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{len(KINDS)} inputs in {PAGE}\n")
