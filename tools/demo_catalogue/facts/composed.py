"""Facts of the works of named composers: masses, madrigals, chorales, quartets and single scores."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mess.demo.corpus.raw import RawWork
from tools.demo_catalogue.facts import keys, tables

ATONAL = frozenset({"schoenberg", "webern"})
PALESTRINA = "Palestrina Masses"
BACH = "Bach Chorales"
MONTEVERDI = "Monteverdi Madrigals"
TRECENTO = "Fourteenth-Century Polyphony"
JOSQUIN = "Josquin Chansons and Motets"
OTHERS = "Assorted Scores"
MONTEVERDI_YEARS = {3: 1592, 4: 1603, 5: 1605}
MASS_SECTIONS = ("Kyrie", "Gloria", "Credo", "Sanctus", "Benedictus", "Agnus")
# Volume of "Polyphonic Music of the Fourteenth Century" to its composer, where a volume has one.
PMFC_COMPOSERS = {"01": "vitry", "04": "landini", "24": "ciconia"}
PMFC_FORMS = {"01": "motet", "04": "ballata", "06": "madrigal"}
# Mass movements known by the songs that Zacara built them on.
ZACARA = (
    "Micinella",
    "Cursor",
    "Rosetta",
    "Fior Gentil",
    "Laus Honor",
    "Ad Ongni Vento",
    "Anglicana",
    "Scabroso",
)
CACCIAS = ("Con Brachi Assai", "Chavalcando")


def describe_composed(work: RawWork, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a work; `titles` gives the names of Bach's chorales and Monteverdi's madrigals by track id."""
    folder = work.file.split("/")[0]
    facts = _FOLDERS.get(folder, _score)(work, titles)
    if folder in tables.COMPOSERS:
        facts = composer(folder) | facts
    if folder not in ATONAL:
        facts.setdefault("key_signature", _key(work))
    parts = len(set(work.notes.part))
    vocal = facts.get("form") in {
        "mass movement",
        "madrigal",
        "motet",
        "chorale",
        "chanson",
        "ballata",
        "caccia",
    }
    if vocal and "ensemble" not in facts:
        facts["ensemble"] = f"{parts} voices" if parts > 1 else "1 voice"
    if vocal:
        facts.setdefault("instrument", "voices")
    sacred = {"mass movement", "motet", "chorale"}
    facts["tags"] = [
        facts["form"],
        *(["vocal"] if vocal else []),
        *(["sacred"] if facts["form"] in sacred else []),
    ]
    return facts


def composer(key: str) -> dict[str, Any]:
    """Return the composer's keys of the metadata."""
    known = tables.COMPOSERS[key]
    return {"composer": known.name, "composer_full": known.full, "era": known.era}


def _key(work: RawWork) -> str:
    declared = next((value for code, value in work.header if code == "key"), None)
    key = keys.humdrum_key(declared) if declared else None
    if key is None and work.file.endswith(".abc"):
        fields = dict(work.header)
        key = keys.abc_key(fields.get("K", ""))
    return key or keys.final_key(work)


def _palestrina(work: RawWork, _titles: Mapping[str, str]) -> dict[str, Any]:
    header = dict(reversed(work.header))
    section, mass = header["OTL"], re.sub(r"\s+", " ", header["OPR"])
    stem = work.track_id.split("/")[1].split("_")[0]
    part = section
    # Sections such as "First Section" mean something only beside the name of the movement they are of.
    if stem in MASS_SECTIONS and not section.lower().startswith(stem.lower()):
        part = f"{stem}, {section}"
    facts: dict[str, Any] = {
        "title": f"{mass}: {part}",
        "collection": PALESTRINA,
        "form": "mass movement",
        "movement_name": part,
        "work": mass,
        "mass_section": stem,
    }
    kind = re.search(r"\((\w+)\)", header.get("AGN", ""))
    if kind:
        facts["mass_type"] = kind[1].lower()
    if "PWK" in header:
        facts["printed_source"] = header["PWK"].replace("8vce", "(eight voices)")
    if "ASW" in header:
        facts["model"] = header["ASW"]
    return facts


def _bach(work: RawWork, titles: Mapping[str, str]) -> dict[str, Any]:
    number = work.track_id.split("/bwv")[1]
    catalogue = re.sub(r"-\w+$", "", number)
    facts: dict[str, Any] = {"collection": BACH, "opus": f"BWV {catalogue}"}
    if number in tables.BACH_OTHERS:
        title, form, instrument = tables.BACH_OTHERS[number]
        return facts | {"title": title, "form": form, "instrument": instrument, "collection": OTHERS}
    name = titles.get(work.track_id) or tables.CHORALES.get(number)
    cantata = int(catalogue.split(".")[0])
    if "." in catalogue and cantata <= 200:
        facts["source_work"] = f"Cantata BWV {cantata}"
    return facts | {"title": name or f"Chorale, BWV {catalogue}", "form": "chorale"}


def _monteverdi(work: RawWork, titles: Mapping[str, str]) -> dict[str, Any]:
    match = re.search(r"madrigal\.(\d+)\.(\d+)", work.track_id)
    book, number = (int(match[1]), int(match[2])) if match else (0, 0)
    facts: dict[str, Any] = {
        "title": titles.get(work.track_id, f"Madrigal {book}.{number}"),
        "collection": MONTEVERDI,
        "form": "madrigal",
        "opus": f"Book {book} No. {number}",
        "book": book,
    }
    if book in MONTEVERDI_YEARS:
        facts["year_composed"] = MONTEVERDI_YEARS[book]
    return facts


def _trecento(work: RawWork, _titles: Mapping[str, str]) -> dict[str, Any]:
    stem = work.file.split("/")[1].rsplit(".", 1)[0].replace("-", " ").replace("_", " ")
    facts: dict[str, Any] = {"collection": TRECENTO, "era": tables.MEDIEVAL, "composer": "Anonymous"}
    match = re.match(r"PMFC (\d+)\s*(?:(Jacopo|Giovanni|Piero)\s*)?(\d+[ab]?)?\s*(.*)$", stem)
    if not match:
        return facts | {"title": stem.split(" ", 1)[1], "form": "motet"}
    volume, name, number, rest = match[1], match[2], match[3], match[4]
    title = _PMFC_TITLES.get(rest, re.sub(r"\s*(?:PMFC ?[\d.]+[ab]?|Apt 16|Ciconia \d+)$", "", rest).strip())
    facts["title"] = title
    facts["form"] = _trecento_form(volume, title)
    facts["printed_source"] = f"Polyphonic Music of the Fourteenth Century, vol. {int(volume)}"
    if number:
        facts["printed_source"] += f", no. {number}"
    key = _trecento_composer(volume, name, title, dict(work.header).get("composer", ""))
    return facts | (composer(key) if key else {})


# Titles of the files whose names were made safe for file systems.
_PMFC_TITLES = {
    "A lle s andra lo spirt": "A le' s'andrà lo spirto",
    "Quanto piu caro": "Quanto più caro fay",
    "Si dolce non sono": "Sì dolce non sonò",
    "All onbra d un perlato": "All'onbra d'un perlato",
    "Quando laire comenca": "Quando l'aire comença",
    "I senti gia come l arco": "I' senti' già come l'arco d'amore",
    "Di Novo": "Di novo è giunto un cavalier",
    "Vos Qui Admiramini Gratissima virginis species": "Vos qui admiramini / Gratissima virginis species",
    "Doctorum principem Melodia suavissima Vir mitis": "Doctorum principem / Melodia suavissima / Vir mitis",
    "Ut te per omnes celitus  Ingens alumnus padue": "Ut te per omnes celitus / Ingens alumnus Padue",
}


def _trecento_form(volume: str, title: str) -> str:
    if re.match(r"Kyrie|Gloria|Credo|Sanctus|Agnus|Benedicamus", title):
        return "mass movement"
    if title in CACCIAS:
        return "caccia"
    # Landini's "Sì dolce non sonò" is the one madrigal of his here.
    return "madrigal" if title.startswith("Sì dolce") else PMFC_FORMS.get(volume, "motet")


def _trecento_composer(volume: str, name: str | None, title: str, credit: str) -> str | None:
    words = [name or "", *re.findall(r"\w+", title), *re.findall(r"\w+", credit)]
    if volume in PMFC_COMPOSERS:
        return PMFC_COMPOSERS[volume]
    if volume == "13" and any(song in title for song in ZACARA):
        return "zacara"
    return next((word.lower() for word in words if word.lower() in tables.COMPOSERS), None)


def _score(work: RawWork, _titles: Mapping[str, str]) -> dict[str, Any]:
    folder = work.track_id.rsplit("/", 1)[0]
    score = tables.SCORES.get(work.track_id) or tables.SCORES.get(folder)
    if score is None:
        name = dict(work.header).get("movementName", work.track_id.split("/")[-1])
        return {"title": name, "form": "score", "collection": OTHERS}
    facts: dict[str, Any] = {
        "title": score.title,
        "form": score.form,
        "collection": score.collection or (JOSQUIN if work.file.startswith("josquin/") else OTHERS),
        "opus": score.opus,
        "year_composed": score.year,
        "ensemble": score.ensemble,
        "instrument": score.instrument,
    }
    number = re.search(r"movement(\d+)", work.track_id)
    if number:
        facts["movement"] = number[1]
        facts["work"] = score.title
        index = int(number[1]) - 1
        # A set of which the corpus has one movement names that one alone.
        known = score.movements if len(score.movements) != 1 else score.movements * (index + 1)
        heading = known[index] if index < len(known) else None
        facts["movement_name"] = heading
        facts["title"] = (
            f"{score.title}: {number[1]}. {heading}" if heading else f"{score.title}: No. {number[1]}"
        )
    # The movements within may be in other keys than the work; the first and the last aren't.
    if score.key and (not number or int(number[1]) in {1, len(score.movements)}):
        facts["key_signature"] = score.key
    lead = {"leadSheet/berlinAlexandersRagtime": "berlin", "leadSheet/fosterBrownHair": "foster"}
    if work.track_id in lead:
        facts |= composer(lead[work.track_id])
    return {key: value for key, value in facts.items() if value is not None}


_FOLDERS: dict[str, Callable[[RawWork, Mapping[str, str]], dict[str, Any]]] = {
    "palestrina": _palestrina,
    "bach": _bach,
    "monteverdi": _monteverdi,
    "trecento": _trecento,
}
