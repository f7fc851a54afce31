"""Words of a search and of what is searched, folded alike."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search_text import (
    SearchWords,
    deletion_variants,
    fold_text,
    is_correctable,
    one_typo,
    search_document,
    weighted_words,
    words_of,
)

pytestmark = pytest.mark.unit

LETTERS = st.text("abcdefgh", min_size=2, max_size=7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Op.27,No.2", ["op", "27", "no", "2"]),
        ("op27", ["op", "27"]),
        ("K.331", ["k", "331"]),
        ("AC/DC", ["ac", "dc"]),
        ("Dvořák", ["dvorak"]),
        ("Łódź Ærø ﬁne STRASSE Straße", ["lodz", "aero", "fine", "strasse", "strasse"]),
        ("Чайковский", ["чаиковскии"]),
        ("\uff22\uff41\uff43\uff48 \uff12\uff17", ["bach", "27"]),
        ("!!! ''", []),
    ],
)
def test_words_are_folded(text: str, words: list[str]) -> None:
    """Case, accents, width and punctuation do not count, and digits stand apart from letters."""
    assert words_of(text) == words


@given(st.text(max_size=60))
def test_composition_does_not_count(text: str) -> None:
    """NFC and NFD of a text have the same words, and folding twice changes nothing."""
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert words_of(composed) == words_of(decomposed) == words_of(text)
    assert fold_text(fold_text(text)) == fold_text(text)


@given(st.text(min_size=1, max_size=80), st.text(max_size=40))
def test_a_document_holds_every_word_of_its_track(title: str, track_id: str) -> None:
    """Whatever a title or an id holds, each of its words is stored, and nothing in them needs quoting."""
    stored = weighted_words(track_id, {"title": title, "tags": ["a b"]})
    assert set(words_of(title)) | set(words_of(track_id)) | {"a", "b"} <= set(stored)
    assert all(word.isalnum() for word in stored)
    assert search_document(stored).count("'") == 2 * len(stored)


def test_joined_names_are_found_as_one_word_too() -> None:
    """What punctuation joins is found in parts and as one."""
    stored = weighted_words("x", {"title": "AC/DC and O'Neill", "opus": "Op.27"})
    assert {"ac", "dc", "acdc", "oneill", "neill", "op", "27"} <= set(stored)
    assert (stored["acdc"], stored["op"]) == ("1A", "2B")


@given(LETTERS, st.data())
def test_one_edit_is_one_typo_and_shares_a_deletion(word: str, data: st.DataObject) -> None:
    """A letter more, less, other or exchanged is one typo, and what the index is asked for then finds it."""
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("abcdefgh"))
    edits = {
        word[:at] + word[at + 1 :],
        word[:at] + letter + word[at:],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    }
    for edited in edits:
        assert one_typo(word, edited)
        assert one_typo(edited, word)
        asked = {edited, *deletion_variants(edited)}
        assert word in asked or asked & set(deletion_variants(word))


@pytest.mark.parametrize(
    ("one", "other"), [("bach", "bhca"), ("abcd", "badc"), ("bach", "bachen"), ("ab", "cd")]
)
def test_two_edits_are_too_many(one: str, other: str) -> None:
    """Words two edits apart are not taken for each other."""
    assert not one_typo(one, other)


def test_queries_go_from_strict_to_forgiving() -> None:
    """All words come first; then one fewer each time, each word or one like it."""
    asked = SearchWords("Bahc fugue!")
    assert asked.strict() == ["'bahc':A & 'fugue':A", "'bahc' & 'fugue'", "'bahc':* & 'fugue':*"]
    levels = asked.forgiving({"fugue"}, {"bahc": ["bach"], "fugue": ["fugues"]})
    both = "(('bahc':* | 'bach') & ('fugue':*))"
    assert next(levels) == ["('bahc':A & 'fugue':A)", "('bahc' & 'fugue')", both]
    assert next(levels) == ["(('bahc':* | 'bach') & ('fugue':* | 'fugues'))"]
    one = "(('bahc':* | 'bach')) | (('fugue':*))"
    assert next(levels) == ["('bahc':A) | ('fugue':A)", "('bahc') | ('fugue')", one]
    assert next(levels, None) is None
    assert [len(level) for level in SearchWords("xqzw bach").forgiving({"bach"}, {})] == [3]
    assert len(SearchWords(" ".join(f"w{chr(97 + n)}" for n in range(20))).words) == 8


def test_a_short_number_is_asked_for_whole() -> None:
    """`27` begins the numbers of half a catalogue; `331` and `op` begin few words enough."""
    assert SearchWords("op27").strict()[-1] == "'op':* & '27'"
    assert SearchWords("k 331").strict()[-1] == "'k':* & '331':*"
    assert next(SearchWords("27").forgiving({"27"}, {}))[-1] == "(('27'))"


def test_numbers_and_short_words_are_not_corrected() -> None:
    """An opus number one digit away is another work; of three letters too little is left."""
    assert [is_correctable(word) for word in ("331", "bwv", "bach", "x" * 31)] == [False, False, True, False]
