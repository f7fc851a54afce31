"""Words of a search: one normalisation for stored text and for queries.

Folding removes differences of accents, case, punctuation and composition (NFC, NFD, full-width forms). Letters and digits
are separate words: `op27`, `op 27` and `Op.27` are the same two.
"""

import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

# Hits in these fields rank first; other fields and the id are searched, too.
_NAMING: Final = ("title", "composer", "composer_full", "artist", "artists", "form")
_FURTHER: Final = (
    "opus",
    "movement",
    "movement_name",
    "album",
    "performer_name",
    "era",
    "key_signature",
    "tempo_marking",
    "instrument",
    "ensemble",
    "tags",
)
# Letters that Unicode does not decompose into one of the alphabet and a mark.
_LETTERS: Final = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "\u0131": "i",
        "ł": "l",
        "ŧ": "t",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
    }
)
_RUN: Final = re.compile(r"[^\W\d_]+|\d+")
_LONGEST_WORD: Final = 60
_MOST_WORDS: Final = 400
# A longer search is cut to so many words, as their combinations grow.
_MOST_ASKED: Final = 8
_SHORTEST_CORRECTED: Final = 4
# A shorter number is asked for whole: among a million tracks hundreds of thousands of numbers begin with `27`.
_SHORTEST_NUMBER_BEGUN: Final = 3
_LONGEST_CORRECTED: Final = 30


def fold_text(text: str) -> str:
    """`text` without accents and case."""
    if text.isascii():
        return text.lower()
    # Twice, as the result of case folding may decompose further.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(letter for letter in folded if not unicodedata.combining(letter)).translate(_LETTERS)


def words_of(text: str) -> list[str]:
    """The folded runs of letters and of digits in `text`, in order."""
    return [word[:_LONGEST_WORD] for word in _RUN.findall(fold_text(text))]


def _stored_words(text: str) -> Iterator[str]:
    """The words of a field; of letters that punctuation joins, also the whole: `acdc` finds AC/DC, `oneill` O'Neill."""
    for chunk in fold_text(text).split():
        parts = _RUN.findall(chunk)
        yield from (part[:_LONGEST_WORD] for part in parts)
        if len(parts) > 1 and all(part.isalpha() for part in parts):
            yield "".join(parts)[:_LONGEST_WORD]


def weighted_words(track_id: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """The words of a track, each with its position in a `tsvector`: weight A for its names, B for others.

    Args:
        track_id: Its id.
        metadata: Values by the names of `store.columns.METADATA_FIELDS`.
    """
    weights: dict[str, str] = {}
    for names, weight in ((_NAMING, "1A"), (_FURTHER, "2B")):
        for name in names:
            value = metadata.get(name)
            if not value:
                continue
            for word in _stored_words(value if isinstance(value, str) else " ".join(value)):
                weights.setdefault(word, weight)
    for word in _stored_words(track_id):
        weights.setdefault(word, "2B")
    return dict(list(weights.items())[:_MOST_WORDS])


def search_document(words: Mapping[str, str]) -> str:
    """A `tsvector` literal. Words are letters or digits only, so nothing needs quoting."""
    return " ".join(f"'{word}':{weight}" for word, weight in words.items())


def beginning_of(word: str) -> str:
    """The text-search query for words that begin with `word`; a number of one or two digits begins itself alone."""
    whole = word.isdigit() and len(word) < _SHORTEST_NUMBER_BEGUN
    return f"'{word}'" if whole else f"'{word}':*"


def is_correctable(word: str) -> bool:
    """Whether one typo in `word` is forgiven: it must be letters, and long enough."""
    return _SHORTEST_CORRECTED <= len(word) <= _LONGEST_CORRECTED and word.isalpha()


def deletion_variants(word: str) -> list[str]:
    """`word` without each of its letters in turn. Two words one typo apart share one of these, or one is among them."""
    return sorted({word[:at] + word[at + 1 :] for at in range(len(word))})


def one_typo(one: str, other: str) -> bool:
    """Whether the words differ by one typo: one letter more, less or changed, or two neighbours swapped."""
    if abs(len(one) - len(other)) > 1:
        return False
    if len(one) > len(other):
        one, other = other, one
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    exchanged = one[at + 1 : at + 2] + one[at : at + 1] == other[at : at + 2]
    return one[at + 1 :] == other[at + 1 :] or (exchanged and one[at + 2 :] == other[at + 2 :])


class SearchWords:
    """The words of one search as text-search queries, from the strictest to the most forgiving.

    Attributes:
        words: The folded words, each once, at most eight.
    """

    def __init__(self, search: str) -> None:
        self.words = list(dict.fromkeys(words_of(search)))[:_MOST_ASKED]

    def strict(self) -> list[str]:
        """Queries for all words: whole words in names, whole words anywhere, prefixes anywhere; each includes the ones before."""
        return [
            " & ".join(f"'{word}':A" for word in self.words),
            " & ".join(f"'{word}'" for word in self.words),
            " & ".join(beginning_of(word) for word in self.words),
        ]

    def forgiving(self, known: Container[str], alike: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
        """Queries to try if no track has all words, in levels; the last query of a level includes its others.

        Args:
            known: Words that some track has, or has a word that begins so.
            alike: For a word, those of the catalogue that it may be a misspelling or a part of.

        Yields:
            First all words, those that are not known replaced; then any of them replaced; then all but one, and so on.
            A word that nothing in the catalogue is like is not asked for.
        """
        possible = [word for word in self.words if word in known or alike.get(word)]
        wanted = [[word] if word in known else [word, *alike[word]] for word in possible]
        for count in range(len(possible), 0, -1):
            yield [
                _any([f"'{word}':A" for word in chosen] for chosen in combinations(possible, count)),
                _any([f"'{word}'" for word in chosen] for chosen in combinations(possible, count)),
                _any([_term(*words) for words in chosen] for chosen in combinations(wanted, count)),
            ]
            if count == len(self.words):
                yield [_any([[_term(word, *alike.get(word, ())) for word in possible]])]


def _term(word: str, *others: str) -> str:
    return "(" + " | ".join([beginning_of(word), *(f"'{other}'" for other in others)]) + ")"


def _any(choices: Iterable[list[str]]) -> str:
    return " | ".join(f"({' & '.join(terms)})" for terms in choices)
