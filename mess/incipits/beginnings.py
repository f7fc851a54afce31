"""Scores cut down to their beginnings before they are parsed: parsing all of a long one would keep a listener waiting."""

import io
import xml.etree.ElementTree as ET
import zipfile

# At the slowest tempo, enough for what an incipit plays.
BARS = 16


def first_bars_of_humdrum(text: str, bars: int = BARS) -> str:
    """A Humdrum file up to its `bars`th bar line; all of it where there are fewer."""
    kept, seen = [], 0
    for line in text.splitlines():
        kept.append(line)
        if line.startswith("="):
            seen += 1
            if seen > bars:
                kept.append("\t".join("*-" for _ in line.split("\t")))
                return "\n".join(kept) + "\n"
    return text


def first_bars_of_musicxml(data: bytes, bars: int = BARS) -> str:
    """A MusicXML document, as it is or zipped, with the first `bars` measures of each part."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        data = _zipped_score(data)
    root = ET.fromstring(data)  # noqa: S314 -- likewise
    for part in root.iter("part"):
        for measure in part.findall("measure")[bars:]:
            part.remove(measure)
    return ET.tostring(root, encoding="unicode")


def _zipped_score(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        container = ET.fromstring(archive.read("META-INF/container.xml"))  # noqa: S314 -- likewise
        (first, *_) = (node for node in container.iter() if node.tag.endswith("rootfile"))
        return archive.read(first.attrib["full-path"])
