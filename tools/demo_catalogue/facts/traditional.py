"""Facts of the fiddle, fife and pipe tunes: O'Neill, Ryan, Aird, the Northumbrian and the American books."""

import re
from typing import Any

from mess.demo.corpus.raw import RawWork
from tools.demo_catalogue.facts import keys, text

ONEILL = "O'Neill's Music of Ireland"
RYAN = "Ryan's Mammoth Collection"
AIRD = "Aird's Airs"
NORTHUMBRIAN = "Northumbrian Minstrelsy"
FIFE = "American Fife Music"
NOTTINGHAM = "Nottingham Music Database"

# The number at which the Northumbrian book goes over from songs to tunes for the pipes.
NORTHUMBRIAN_PIPES = 58
# The printed book is in sections; its numbers tell the form where a transcriber wrote none.
ONEILL_SECTIONS = (
    (1, "air"),
    (701, "jig"),
    (1116, "slip jig"),
    (1176, "reel"),
    (1556, "hornpipe"),
    (1781, "long dance"),
    (1801, "air"),
)
# Spelling in the headers and titles to the form; the first that is found counts, so longer names come first.
FORMS = (
    ("slip jig", r"slip ?jig|hop ?-* ?jig"),
    ("highland fling", r"highland fling|fling"),
    ("strathspey", r"strathspeys?"),
    ("hornpipe", r"hornpipes?"),
    ("clog", r"clog"),
    ("walkaround", r"walk ?around"),
    ("quickstep", r"quick ?-?steps?"),
    ("quick march", r"quick march"),
    ("march", r"marche?"),
    ("jig", r"jigg?s?|giga|gigue"),
    ("reel", r"reels?"),
    ("slide", r"slide"),
    ("minuet", r"minuet|menuet|minuetto"),
    ("waltz", r"waltz|walz|valse"),
    ("gavotte", r"gavotte?"),
    ("polka", r"polka"),
    ("cotillion", r"cotill?ion|cotillon"),
    ("allemande", r"allemande?a?"),
    ("rondo", r"rondo|rondeau"),
    ("air", r"air|aire|aria"),
)
DANCES = frozenset({
    "slip jig", "highland fling", "strathspey", "hornpipe", "clog", "walkaround", "jig", "reel", "slide",
    "waltz", "long dance", "polka",
})  # fmt: skip
ORIGINS = {
    "irish": "Ireland", "scotch": "Scotland", "scottish": "Scotland", "welch": "Wales", "welsh": "Wales",
    "french": "France", "german": "Germany", "gaelic": "Scotland", "highland": "Scotland", "english": "England",
    "virginian": "United States", "west india": "Caribbean", "russian": "Russia", "italian": "Italy",
    "turkish": "Turkey", "hungarian": "Hungary", "swiss": "Switzerland", "american": "United States",
}  # fmt: skip
# Credits that look like a name and are none: publishers, remarks, initials alone.
NO_NAMES = frozenset({"Anon", "Preston", "Cushing", "Negroe Jig", "N. G", "J. H", "F. H. B", "Etc"})
# The composers' names as Ryan's book and its transcribers spell them, where they spell them more than one way.
SPELLINGS = {
    "Frank Livingstone": "Frank Livingston", "Zeke Bacus": "Zeke Backus", "Jas. Hand": "James Hand",
    "J. Hand": "James Hand", "E. Christie": "Edwin Christie", "G. L. Tract": "G. L. Tracy",
    "Dan Emmett": "Daniel Emmett", "P. S. Gilmore": "Patrick Gilmore",
    "Neil Gow": "Niel Gow", "Mr. Bourat": "Bourat", "Mr. Alphy": "Alphy",
}  # fmt: skip


def find_form(words: str) -> str | None:
    """Return the first known form named in `words`."""
    for form, pattern in FORMS:
        if re.search(rf"\b(?:{pattern})\b", words, re.IGNORECASE):
            return form
    return None


def describe_traditional(work: RawWork) -> dict[str, Any]:
    """Return the facts of a tune from one of these books."""
    fields: dict[str, list[str]] = {}
    for letter, value in work.header:
        fields.setdefault(letter, []).append(text.decode_accents(text.repair_encoding(value)))
    book = work.file.split("/")[0]
    if book == "miscFolk":
        book = "northumbrian" if "northumb" in work.file else "fife"
    facts = _BOOKS[book](work, fields)
    titles = [_title(t) for t in fields.get("T", [])]
    facts["title"] = titles[0] if titles and titles[0] else f"{facts['collection']} No. {work.number}"
    # O'Neill's Gaelic titles are in a transliteration with dots that helps nobody.
    others = [t for t in titles[1:] if t and not re.search(r"\.\w", t)]
    if others:
        facts["alternative_titles"] = others
    facts["key_signature"] = keys.abc_key(fields.get("K", [""])[-1]) or keys.estimated_key(work)
    tempo = _tempo(fields)
    if tempo:
        facts["tempo_marking"] = tempo
    # A jig in nine is a slip jig, whatever the transcriber called it.
    if facts.get("form") == "jig" and fields.get("M", [""])[-1].startswith("9/8"):
        facts["form"] = "slip jig"
    form = facts.get("form")
    facts["tags"] = ["traditional", *(["dance"] if form in DANCES else []), *([form] if form else [])]
    return facts


def _title(raw: str) -> str:
    title = text.tidy(raw.replace(" -- ", " ").replace(" - ", " "))
    title = text.front_article(title, text.title_case)
    # Ryan's titles put the dance last: "Good Girl -- Reel".
    title = re.sub(r"\bThe (Reel|Jig|Hornpipe|Clog|Strathspey)$", r"\1", title)
    title = text.title_case(text.tidy(title))
    return title[:1].upper() + title[1:]


def _tempo(fields: dict[str, list[str]]) -> str | None:
    for value in fields.get("Q", []):
        words = re.search(r'"([^"]+)"', value)
        if words:
            return text.tidy(words[1])
    for note in fields.get("N", []):
        words = re.match(r'"?(\w[\w ]*?)\.?"', note)
        known = r"(very )?(slow|moderate|lively|spirited|animated|gaily|tenderly|boldly|with \w+|playful|plaintive)"
        if words and re.match(known, words[1], re.IGNORECASE):
            return words[1].capitalize()
    return None


def _oneill(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    number = work.number or 0
    declared = find_form(" ".join(fields.get("R", [])))
    section = [form for start, form in ONEILL_SECTIONS if number >= start][-1]
    facts: dict[str, Any] = {
        "collection": ONEILL,
        "opus": f"O'Neill {number}",
        "form": declared or ("march" if number > 1800 and "march" in fields["T"][0].lower() else section),
        "region": "Ireland",
        "year_published": 1903,
    }
    if any("carolan" in c.lower() for c in fields.get("C", [])):
        facts |= {"composer": "O'Carolan", "composer_full": "Turlough O'Carolan", "era": "Baroque"}
    collector = re.search(
        r"collected (?:by|from) ([\w.' ]+)",
        " ".join(fields.get("N", []) + fields.get("C", [])),
        re.IGNORECASE,
    )
    if collector:
        name = re.sub(r"\.(?=\w)", ". ", collector[1].strip(" .'")).replace("o'", "O'")
        facts["collector"] = name.removesuffix(". O'Carolan")
    return facts


def _ryan(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    form = find_form(" ".join(fields.get("R", []))) or find_form(fields.get("T", [""])[0])
    facts: dict[str, Any] = {"collection": RYAN, "form": form, "instrument": "fiddle", "year_published": 1883}
    facts |= _credit(" ".join(fields.get("C", [])), " ".join(fields.get("O", [])))
    return facts


def _aird(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    form = find_form(" ".join(fields.get("R", []) + fields.get("T", [])))
    facts: dict[str, Any] = {
        "collection": AIRD,
        "opus": f"Aird {work.number}",
        "volume": int(work.file[-5]),
        "form": form or "air",
        "instrument": "fife, violin or flute",
    }
    credit = fields.get("C", [""])[0].split("%")[0]
    facts |= _credit(credit, " ".join([credit, *fields.get("T", [])]))
    return facts


def _credit(name: str, origin: str) -> dict[str, Any]:
    """Return composer or region from a credit, which in these books may be either: "SCOTCH." or "Harry Carleton"."""
    facts: dict[str, Any] = {}
    for word, place in ORIGINS.items():
        if re.search(rf"\b{word}\b", origin + " " + name, re.IGNORECASE):
            facts["region"] = place
            return facts
    name = re.sub(r"^(?:arr\.|by)\s+", "", name.strip(), flags=re.IGNORECASE)
    name = text.title_case(text.tidy(re.sub(r"\.(?=\w)", ". ", name)))
    name = SPELLINGS.get(name, name)
    # A credit of one or two lettered words is a name; anything longer is a remark.
    if re.fullmatch(r"(?:[A-Z][\w.'\u2019]*\s?){1,4}", name) and name not in NO_NAMES and len(name) > 4:
        facts |= {"composer": name.split(" ")[-1], "composer_full": name}
    return facts


def _northumbrian(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    form = find_form(fields["T"][0])
    facts: dict[str, Any] = {
        "collection": NORTHUMBRIAN,
        "form": form or ("song" if (work.number or 0) < NORTHUMBRIAN_PIPES else "pipe tune"),
        "region": "Northumberland, England",
        "year_published": 1882,
    }
    return facts | _credit(fields.get("C", [""])[0], "")


def _fife(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "collection": FIFE,
        "form": find_form(fields["T"][0]) or "air",
        "instrument": "fife",
        "region": "United States",
    }
    # A name with a year, as "Cushing (1804)", is a tunebook's.
    credit = fields.get("C", [""])[0]
    book = re.fullmatch(r"(\w+) \((\d{4})\)", credit)
    if book:
        return facts | {"printed_source": credit, "year_published": int(book[2])}
    return facts | _credit(credit, "")


def _nottingham(work: RawWork, fields: dict[str, list[str]]) -> dict[str, Any]:
    source = fields.get("S", [""])[0].split(",")[0]
    facts: dict[str, Any] = {"collection": NOTTINGHAM, "form": "reel"}
    return facts | _credit("", source)


_BOOKS = {
    "oneills1850": _oneill,
    "ryansMammoth": _ryan,
    "airdsAirs": _aird,
    "northumbrian": _northumbrian,
    "fife": _fife,
    "nottingham-dataset": _nottingham,
}
