"""What the catalogue says of a work, from headers as the corpus has them."""

import pytest

from mess.demo.corpus.raw import RawWork
from tools.demo_catalogue.describe import describe
from tools.demo_catalogue.facts import composed, keys, text
from tools.demo_catalogue.tests.helpers import line, together, work

pytestmark = pytest.mark.unit


def facts_of(one: RawWork, titles: dict[str, str] | None = None) -> dict[str, object]:
    """The metadata of a work, with what an Essen catalogue would have taught about German words."""
    learnt = text.learn_case(["Der wilde Wassermann", "Ein Wassermann freit", "O du wilde Jagd"])
    return describe(one, learnt, titles or {}, "10.5.1")


# Headers of Ryan's Mammoth Collection, and of Essen's folk songs.
_TUNE = ("ryansMammoth/Some.abc", [("R", "reel"), ("K", "D")])
_SONG = ("essenFolksong/erk10.abc", [("O", "Europa, Mitteleuropa, Deutschland"), ("K", "G")])


@pytest.mark.parametrize(
    ("source", "raw", "readable"),
    [
        (_TUNE, "THE HIGHWAY TO DUBLIN", "The Highway to Dublin"),
        (_TUNE, "Goodnatured Man, The", "The Goodnatured Man"),
        (_TUNE, "Bashful Lover., The", "The Bashful Lover"),
        (_TUNE, "OYSTER GIRL'S -- JIG., THE", "The Oyster Girl's Jig"),
        (_TUNE, "BLACK-EYED LASSIE -- REEL, The", "The Black-Eyed Lassie Reel"),
        (_TUNE, "MISS McLEOD'S -- REEL.", "Miss McLeod's Reel"),
        (_TUNE, "DOCTOR O'NEILL", "Doctor O'Neill"),
        (_TUNE, "Rat:tle the Cash -- Jig", "Rattle the Cash Jig"),
        (_TUNE, "La Nov\\'elle Perth=Shire Hunt", "La Novélle Perth-Shire Hunt"),
        (_TUNE, "'NEATH THE MOONLIGHT -- REEL", "'Neath the Moonlight Reel"),
        (_SONG, "Gelobt sei der Herr Jesus Christ (Band 1), S. 11", "Gelobt sei der Herr Jesus Christ"),
        (_SONG, "Der S\x84ngerbund (2-43), S. 116f", "Der Sängerbund"),
        (_SONG, "An der Quelle saá der Knabe (3-16), S. 42f", "An der Quelle saß der Knabe"),
        (_SONG, "ES FREIT EIN WILDER WASSERMANN", "Es freit ein Wilder Wassermann"),
        (_SONG, '"Der Jaeger"', "Der Jaeger"),
        (_SONG, "ICH BIN EIN HANDWF[ERK3SGESELL", "Ich Bin ein Handwerksgesell"),
        (_SONG, "Zou xikou, 1)", "Zou xikou (1)"),
        (_SONG, "Mai cai vgl. Kopie)", "Mai cai"),
    ],
)
def test_titles_are_made_readable(source: tuple[str, list[tuple[str, str]]], raw: str, readable: str) -> None:
    """Capitals, trailing articles, dashes, stray colons, page numbers and broken umlauts go.

    Songs take their capitals from how the other titles write the words.
    """
    file, header = source
    assert facts_of(work(file=file, header=[("X", "1"), ("T", raw), *header]))["title"] == readable


@pytest.mark.parametrize(
    ("origin", "region"),
    [
        ("Europa, Mitteleuropa, Deutschland, Thueringen", "Thuringia, Germany"),
        ("Europa, Mitteleuropa, Deutschland", "Germany"),
        ("Mitteleuropa, Deutschland / Polen, Schlesien", "Silesia"),
        ("China, Shaanxi, Zizhou", "Shaanxi, China"),
        ("China, Taiwan", "Taiwan"),
        ("Luxemburg", "Luxembourg"),
        ("Atlantis", None),
    ],
)
def test_the_region_of_a_song_is_in_english(origin: str, region: str | None) -> None:
    """Country, and region within it where it is one of the common ones; an unknown place is left out."""
    header = [("X", "1"), ("T", "Lied"), ("O", origin), ("K", "G")]
    assert facts_of(work(file="essenFolksong/erk10.abc", header=header)).get("region") == region


def test_a_song_has_its_form_and_all_its_subjects() -> None:
    """A soldiers' ballad is a ballad, tagged with both."""
    header = [("X", "1"), ("T", "Lied"), ("R", "Ballade, Soldaten - Lied"), ("K", "G")]
    facts = facts_of(work(file="essenFolksong/erk10.abc", header=header))
    assert facts["form"] == "ballad"
    assert facts["tags"] == ["traditional", "folk song", "ballad", "soldiers' song"]


def test_a_song_takes_its_tonic_from_the_header_and_its_mode_from_the_notes() -> None:
    """The Essen headers name the tonic alone: a tune with a minor third on it is minor."""
    header = [("X", "1"), ("T", "Lied"), ("K", "G")]
    minor = line([67, 70, 74, 70, 67, 69, 70, 67, 72, 70, 69, 67, 74, 70, 67])
    facts = facts_of(work(file="essenFolksong/erk10.abc", header=header, raw=minor))
    assert facts["key_signature"] == "G minor"


@pytest.mark.parametrize(
    ("number", "declared", "form"),
    [
        (100, None, "air"),
        (900, None, "jig"),
        (1400, None, "reel"),
        (1650, None, "hornpipe"),
        (600, "waltz", "waltz"),
    ],
)
def test_an_oneill_tune_has_its_section_s_form_unless_it_declares_one(
    number: int, declared: str | None, form: str
) -> None:
    """The printed book goes from airs by way of jigs and reels to hornpipes."""
    header = [("X", str(number)), ("T", "Tune"), *([("R", declared)] if declared else []), ("K", "D")]
    assert facts_of(work(header=header, number=number))["form"] == form


def test_a_jig_in_nine_is_a_slip_jig() -> None:
    """The metre decides where the transcriber's word is general."""
    header = [("X", "1"), ("T", "Barney's Goat -- Jig"), ("R", "jig"), ("M", "9/8"), ("K", "Em")]
    assert facts_of(work(file="ryansMammoth/Goat.abc", header=header))["form"] == "slip jig"


@pytest.mark.parametrize(
    ("credit", "expected"),
    [
        ("ZEKE BACKUS.", {"composer": "Backus", "composer_full": "Zeke Backus"}),
        ("JAS. HAND.", {"composer": "Hand", "composer_full": "James Hand"}),
        ("G.L.TRACY.", {"composer": "Tracy", "composer_full": "G. L. Tracy"}),
        ("SCOTCH.", {"region": "Scotland"}),
        ("", {}),
    ],
)
def test_a_credit_is_a_composer_or_a_country(credit: str, expected: dict[str, str]) -> None:
    """Ryan's book prints either in the same place."""
    header = [("X", "1"), ("T", "Tune"), ("C", credit), ("R", "reel"), ("K", "D")]
    facts = facts_of(work(file="ryansMammoth/Tune.abc", header=header))
    found = {key: facts[key] for key in ("composer", "composer_full", "region") if key in facts}
    assert found == expected


def test_a_mass_movement_has_its_mass_and_its_section() -> None:
    """A section's bare title is completed by its movement and its mass."""
    header = [
        ("COM", "Palestrina, Giovanni Perluigi da"), ("OPR", "Missa Je suis desheritee"), ("OTL", "First Section"),
        ("AGN", "Mass (Parody)"), ("PWK", "Masses, Book 6"), ("key", "D:aeo"),
    ]  # fmt: skip
    facts = facts_of(work("palestrina/Credo_28_a", "palestrina/Credo_28_a.krn", header, number=None))
    assert facts["title"] == "Missa Je suis desheritee: Credo, First Section"
    assert facts["composer_full"] == "Giovanni Pierluigi da Palestrina"
    assert (facts["form"], facts["mass_type"], facts["key_signature"]) == (
        "mass movement",
        "parody",
        "D aeolian",
    )
    assert facts["era"] == "Renaissance"


def test_a_chorale_has_the_title_of_its_melody() -> None:
    """The corpus's list of chorales comes first, our own table next, the number last."""
    listed = facts_of(
        work("bach/bwv153.1", "bach/bwv153.1.mxl", [], number=None), {"bach/bwv153.1": "Ach Gott"}
    )
    ours = facts_of(work("bach/bwv66.6", "bach/bwv66.6.mxl", [], number=None))
    unknown = facts_of(work("bach/bwv999", "bach/bwv999.mxl", [], number=None))
    assert (listed["title"], listed["opus"], listed["source_work"]) == (
        "Ach Gott",
        "BWV 153.1",
        "Cantata BWV 153",
    )
    assert ours["title"] == "Christ ist erstanden"
    assert unknown["title"] == "Chorale, BWV 999"


def test_the_last_bass_note_is_the_tonic_of_a_score() -> None:
    """A score that dwells on its dominant is still in the key it ends in."""
    upper = line([67, 71, 74, 71, 67, 74, 71, 72])
    bass = line([55, 55, 55, 55, 55, 55, 55, 48], part=1)
    one = work("bach/bwv999", "bach/bwv999.mxl", [], together(upper, bass), number=None)
    assert facts_of(one)["key_signature"] == "C major"


def test_a_quartet_movement_names_its_work_and_itself() -> None:
    """Title, work, movement and key of a movement from the table."""
    facts = facts_of(work("mozart/k458/movement1", "mozart/k458/movement1.mxl", [], number=None))
    assert facts["title"] == "String Quartet No. 17 in B-flat major, “Hunt”: 1. Allegro vivace assai"
    assert (facts["movement"], facts["opus"], facts["key_signature"]) == ("1", "K. 458", "Bb major")


@pytest.mark.parametrize(
    ("stem", "title", "name"),
    [
        ("PMFC_13_03-Gloria Micinella", "Gloria Micinella", "Zacara"),
        ("PMFC_06_Giovanni-06_Fra_Mille_Corvi", "Fra Mille Corvi", "Giovanni da Cascia"),
        ("PMFC_04-Si dolce non sono", "Sì dolce non sonò", "Landini"),
        ("PMFC_24_1-Gloria Ciconia 1", "Gloria", "Ciconia"),
        ("PMFC_13_10-Gloria", "Gloria", "Anonymous"),
    ],
)
def test_fourteenth_century_files_tell_title_and_composer(stem: str, title: str, name: str) -> None:
    """Volume, names and songs in the file's name decide."""
    facts = composed.describe_composed(work(f"trecento/{stem}", f"trecento/{stem}.xml", [], number=None), {})
    assert (facts["title"], facts["composer"]) == (title, name)


@pytest.mark.parametrize(
    ("written", "key"),
    [("Gm", "G minor"), ("E Minor", "E minor"), ("Dmix", "D mixolydian"), ("ADor", "A dorian"), ("Bb", "Bb major"),
     ("F#m", "F# minor"), ("G % as printed", "G major"), ("Hp", None), ("none", None), ("", None)],
)  # fmt: skip
def test_abc_keys_are_written_one_way(written: str, key: str | None) -> None:
    """All the spellings that the books use, and None for what is no key."""
    assert keys.abc_key(written) == key


@pytest.mark.parametrize(
    ("written", "key"), [("G:mix", "G mixolydian"), ("c#:", "C# minor"), ("B-:ion", "Bb major"), ("x", None)]
)
def test_humdrum_keys_are_written_one_way(written: str, key: str | None) -> None:
    """Capitals are major unless a mode is named."""
    assert keys.humdrum_key(written) == key


def test_no_fact_is_empty() -> None:
    """A key without a value isn't there at all."""
    facts = facts_of(work(file="ryansMammoth/Tune.abc", header=[("X", "1"), ("T", ""), ("C", ""), ("K", "")]))
    assert all(value not in (None, "", []) for value in facts.values())
    assert facts["title"] == "Ryan's Mammoth Collection No. 1"
