"""Facts of the songs of the Essen Folksong Collection, whose headers are German or pinyin."""

import re
from collections.abc import Mapping
from typing import Any

from mess.demo.corpus.raw import RawWork
from tools.demo_catalogue.facts import keys, text

COLLECTION = "Essen Folksong Collection"

# The first name found in the header's place decides; the places are in this order from the particular to the general.
COUNTRIES = {
    "taiwan": "Taiwan", "china": "China", "luxemburg": "Luxembourg", "lothringen": "Lorraine", "elsass": "Alsace",
    "irland": "Ireland", "schottland": "Scotland", "england": "England", "niederlande": "Netherlands",
    "flandern": "Flanders", "belgien": "Belgium", "gottschee": "Gottschee, Slovenia",
    "siebenbuergen": "Transylvania", "schlesien": "Silesia", "pommern": "Pomerania",
    "ostpreussen": "East Prussia", "sudetenland": "Bohemia", "boehmen": "Bohemia", "maehren": "Moravia",
    "kuhlaendchen": "Moravia", "tirol": "Tyrol", "schweiz": "Switzerland", "oesterreich": "Austria",
    "steiermark": "Austria", "frankreich": "France", "italien": "Italy", "schweden": "Sweden",
    "daenemark": "Denmark", "norwegen": "Norway", "polen": "Poland", "ungarn": "Hungary",
    "rumaenien": "Romania", "jugoslawien": "Yugoslavia", "tschechoslowakei": "Czechoslovakia",
    "ukraine": "Ukraine", "russland": "Russia", "udssr": "Soviet Union", "tuerkei": "Turkey",
    "griechenland": "Greece", "spanien": "Spain", "japan": "Japan", "mexiko": "Mexico", "usa": "United States",
    "brasilien": "Brazil", "amerika": "Americas", "deutschland": "Germany",
}  # fmt: skip
REGIONS = {
    "schlesien": "Silesia", "westfalen": "Westphalia", "rheinland": "Rhineland", "niederrhein": "Lower Rhine",
    "rhein": "Rhineland", "rheinprovinz": "Rhineland", "hessen": "Hesse", "bayern": "Bavaria", "thueringen": "Thuringia",
    "sachsen": "Saxony", "schwaben": "Swabia", "franken": "Franconia", "brandenburg": "Brandenburg",
    "wetterau": "Wetterau", "odenwald": "Odenwald", "nassau": "Nassau", "baden": "Baden", "pfalz": "Palatinate",
    "rheinpfalz": "Palatinate", "wuerttemberg": "Württemberg", "schleswig": "Schleswig", "taunus": "Taunus",
    "schleswig - holstein": "Schleswig-Holstein", "hannover": "Hanover", "niedersachsen": "Lower Saxony",
    "westerwald": "Westerwald", "bergisches land": "Bergisches Land", "ober - franken": "Upper Franconia",
    "untermainfranken": "Lower Franconia", "mittel - franken": "Middle Franconia", "berlin": "Berlin",
    "nord - deutschland": "North Germany", "norddeutschland": "North Germany", "sueddeutschland": "South Germany",
    "uckermark": "Uckermark", "altmark": "Altmark", "lausitz": "Lusatia", "mecklenburg": "Mecklenburg",
}  # fmt: skip
# Subjects and uses in the headers' words; the first found names the form, all of them become tags.
SUBJECTS = (
    ("lullaby", r"wiegen"),
    ("children's song", r"kinder ?-? ?lied|kinder -|kinderlied|kinder - spiel"),
    ("Christmas song", r"weihnacht|krippen|dreikoenig"),
    ("sacred song", r"geistlich|religi|marien ?- ?lied|legende|kirchen"),
    ("ballad", r"ballade|romanze|bänkel|moritat"),
    ("soldiers' song", r"soldat|kriegs|reiter ?- ?lied"),
    ("hunting song", r"jaeger|jagd|jäger"),
    ("drinking song", r"trink|zech"),
    ("wedding song", r"hochzeit|ehestand"),
    ("dance song", r"tanz|reigen|dantz|wuge|yangge|dengge|huadeng|caicha|huagu"),
    ("humorous song", r"scherz|spott|schalk|schwank|schelm"),
    ("farewell song", r"abschied"),
    ("work song", r"haozi|haoz|handwerk|bauern ?- ?lied|beruf|arbeits"),
    ("travelling song", r"wander"),
    ("students' song", r"student"),
    ("narrative song", r"erzaehl|erzähl|sage"),
    ("historical song", r"histor"),
    ("patriotic song", r"vaterland|heimat|national"),
    ("custom song", r"brauchtum|ansinge|jahreszeit"),
    ("love song", r"liebe"),
    ("shan'ge", r"shange|xintianyou|huar\b|shanqu"),
    ("xiaodiao", r"xiaodiao|shidiao"),
    ("field song", r"tiange|\byge\b"),
    ("revolutionary song", r"minge|geming"),
)
# Marks of the collection's own database that a conversion left inside words: "HANDWF[ERK3SGESELL".
_MARKS = re.compile(r"F\[(?P<word>ERK)\d|CNR\[")


def describe_essen(work: RawWork, learnt: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a song; `learnt` tells how German words are written (see `text.learn_case`)."""
    fields: dict[str, list[str]] = {}
    for letter, value in work.header:
        fields.setdefault(letter, []).append(text.repair_german(value))
    facts: dict[str, Any] = {
        "title": song_title(work, learnt),
        "collection": COLLECTION,
        "instrument": "voice",
        "key_signature": keys.key_on(work, fields.get("K", [""])[-1]) or keys.estimated_key(work),
    }
    facts |= _place(fields.get("O", [""])[0])
    subjects = [
        name for name, pattern in SUBJECTS if re.search(pattern, " ".join(fields.get("R", [])).lower())
    ]
    facts["form"] = subjects[0] if subjects else "folk song"
    facts["tags"] = ["traditional", "folk song", *subjects]
    number = fields.get("N", [""])[0]
    if re.fullmatch(r"[A-Z]{1,4}\d+\w*", number):
        facts["opus"] = f"Essen {number}"
    printed = text.tidy(fields.get("S", [""])[0])
    if len(printed) > 12 and ":" in printed:
        facts["printed_source"] = re.sub(r"\b[A-ZÄÖÜ]{4,}\b", lambda m: m[0].capitalize(), printed)
    return facts


def song_title(work: RawWork, learnt: Mapping[str, str]) -> str:
    """Return the song's title without page references, or its number in the collection."""
    raw = next((value for letter, value in work.header if letter == "T"), "")
    raw = _MARKS.sub(lambda m: m["word"] or " ", text.repair_german(raw))
    title = text.repair_gloss(text.strip_page(text.tidy(raw)))
    title = text.recase(title, learnt)
    return title[:1].upper() + title[1:] if title else f"Song {work.number}"


def raw_titles(work: RawWork) -> list[str]:
    """Return the titles to learn the words' case from."""
    return [text.repair_german(value) for letter, value in work.header if letter == "T"]


def _place(origin: str) -> dict[str, Any]:
    words = [re.sub(r"\s*[?)].*$|\s*\((?:BRD|DDR)\)", "", w).strip() for w in re.split(r"[,;/]", origin)]
    lower = [word.lower() for word in words]
    country = next((name for key, name in COUNTRIES.items() if key in lower), None)
    if country is None:
        return {}
    facts: dict[str, Any] = {"region": country}
    known = [REGIONS[word] for word in lower if word in REGIONS and REGIONS[word] != country]
    if country == "Germany" and known:
        facts["region"] = known[0] if known[0].endswith("Germany") else f"{known[0]}, Germany"
    elif country == "China":
        place = [word for word in words if word.lower() not in {"china", "asien", "ostasien", ""}]
        if place:
            facts["region"] = f"{place[0].split(' ')[0].capitalize()}, China"
    return facts
