"""Makes titles and names readable: case, misplaced articles, page references, broken encodings."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

SMALL_WORDS = frozenset({
    "a", "an", "and", "as", "at", "but", "by", "de", "del", "des", "di", "du", "en", "et", "for", "from",
    "i'", "in", "into", "la", "le", "les", "nor", "o'", "of", "on", "or", "over", "the", "to", "up", "with",
})  # fmt: skip
GERMAN_SMALL_WORDS = frozenset({
    "aber", "ach", "all", "alle", "als", "also", "am", "an", "auch", "auf", "aufs", "aus", "bei", "bis",
    "bist", "da", "das", "dass", "dein", "deine", "dem", "den", "der", "des", "dich", "die", "dir", "doch",
    "dort", "du", "durch", "ein", "eine", "einem", "einen", "einer", "eins", "er", "es", "euch", "für",
    "fuer", "gar", "geh", "geht", "ging", "gut", "hab", "habe", "hat", "hatte", "herrlich", "heut", "heute",
    "hier", "hin", "ich", "ihr", "im", "immer", "in", "ins", "ist", "ists", "jetzt", "kein", "keine",
    "kommt", "lasst", "lustig", "man", "mein", "meine", "meinem", "meinen", "meiner", "mich", "mir", "mit",
    "muss", "nach", "nicht", "nichts", "noch", "nun", "nur", "ob", "oder", "ohne", "recht", "sah", "schoen",
    "schon", "sein", "seine", "sich", "sie", "sind", "so", "soll", "sollt", "steht", "stund", "tut", "um",
    "und", "uns", "unser", "vom", "von", "vor", "war", "wart", "was", "weil", "wenn", "wer", "wie", "will",
    "wir", "wird", "wo", "wohl", "wollt", "wollte", "zu", "zum", "zur", "frueh",
})  # fmt: skip
ABBREVIATIONS = {"dr": "Dr", "jas": "Jas", "jno": "Jno", "mr": "Mr", "mrs": "Mrs", "st": "St"}
_ARTICLE = re.compile(r"^(?P<rest>.*?)[.,]*,\s*(?P<article>The|An|A|Le|La)\.?$", re.IGNORECASE)
# Page references, and the song's number in its book, as "(5-35), S. 60" or "(Band 1), S. 11".
_PAGE = re.compile(r"[,.]?\s*S\.?\s*\d+\s*(?:ff?\.?)?\s*$")
_BOOK_NUMBER = re.compile(r"\s*\((?:Band\s+)?\d+[a-z]?(?:\s*-\s*\d+[a-z]?)?\)\s*,?\s*$")
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", ",": "\u0327"}
# Bytes of the DOS code page 437 that were taken for Latin-1 when the files were made UTF-8.
_DOS = {code: bytes([code]).decode("cp437") for code in range(0x80, 0xA0)} | {0x9E: "ß"}


def repair_encoding(text: str) -> str:
    """Undo a DOS code page read as Latin-1: control characters become the umlauts they were."""
    return text.translate(_DOS)


def repair_german(text: str) -> str:
    """As `repair_encoding`, and the German sharp s, which that code page has where Latin-1 has a-acute."""
    return re.sub(r"(?<=[a-zäöü])á", "ß", repair_encoding(text))


def decode_accents(text: str) -> str:
    """Read ABC's escapes for accented letters: a backslash, the accent, the letter."""
    return re.sub(
        r"\\(['`^\"~,])([A-Za-z])", lambda m: unicodedata.normalize("NFC", m[2] + _ACCENTS[m[1]]), text
    )


def repair_gloss(title: str) -> str:
    """Give a gloss the bracket it lost, as in "Zou xikou, 1)", and drop one that only points elsewhere."""
    if title.count(")") <= title.count("("):
        return title
    title = re.sub(r"[\s,]*\b(?:vgl|cf)\b[^)]*\)$", "", title)
    return re.sub(r"[\s\],]*,\s*([^,]*\))$", r" (\1", title)


def tidy(text: str) -> str:
    """Collapse blanks, strip stray quotes, brackets and final punctuation."""
    text = re.sub(r"\s+", " ", text).strip()
    # A colon inside a word stands for a hyphen that was lost, as in "Rat:tle".
    text = re.sub(r"(?<=[a-z]):(?=[a-z])", "", text)
    text = re.sub(r"(?<=\w)=(?=\w)", "-", text)
    text = re.sub(r"[\s,;:.(\]]+$", "", text)
    if text.startswith('"') and text.count('"') == 2:
        text = text.replace('"', "")
    return text.strip(" '\"") if text.count('"') == 1 else text.strip()


def front_article(title: str, case: Callable[[str], str] = str) -> str:
    """Move a trailing article to the front, as in "Goodnatured Man, The", and apply `case` to the rest."""
    match = _ARTICLE.match(title)
    return f"{match['article'].capitalize()} {case(match['rest'])}" if match else case(title)


def strip_page(title: str) -> str:
    """Remove a reference to the page and the number in the printed book."""
    return tidy(_BOOK_NUMBER.sub("", tidy(_PAGE.sub("", title))))


def is_shouting(text: str) -> bool:
    """Whether the letters of `text` are all capitals, but for the small ones of "McLEOD"."""
    letters = [c for c in re.sub(r"\bMa?c(?=[A-Z])", "", text) if c.isalpha()]
    return len(letters) > 1 and all(c.isupper() for c in letters)


def title_case(text: str) -> str:
    """Give an English title in capitals its usual case; other titles stay as they are."""
    if not is_shouting(text):
        return text
    words = text.lower().split(" ")
    cased = [
        word if index and word in SMALL_WORDS else _capitalise(word)
        for index, word in enumerate(words)
        if word
    ]
    return " ".join(cased)


def _capitalise(word: str) -> str:
    if word.strip(".") in ABBREVIATIONS:
        return word.replace(word.strip("."), ABBREVIATIONS[word.strip(".")])
    word = re.sub(r"(^|[-(\"'])([a-zà-ÿ])", lambda m: m[1] + m[2].upper(), word)
    word = re.sub(r"\b(Mc|O')([a-z])", lambda m: m[1] + m[2].upper(), word)
    # "'S" and "'T" after a letter are endings, not words.
    return re.sub(r"(?<=\w)'([A-Z])\b", lambda m: "'" + m[1].lower(), word)


def learn_case(titles: Iterable[str]) -> dict[str, str]:
    """Learn from titles in mixed case how each word is written inside a title; keys are lower case."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for title in titles:
        if not is_shouting(title):
            for word in re.findall(r"[^\W\d_]+", title)[1:]:
                seen[word.lower()][word] += 1
    return {word: forms.most_common(1)[0][0] for word, forms in seen.items()}


def _german_word(word: str, learnt: Mapping[str, str]) -> str:
    return word if word in GERMAN_SMALL_WORDS else learnt.get(word, word.capitalize())


def recase(title: str, learnt: Mapping[str, str]) -> str:
    """Write a title in capitals as others write its words; a word nobody wrote is taken for a noun.

    German capitalises nouns, so neither title case nor sentence case would be right.
    """
    if not is_shouting(title):
        return title
    lower = title.lower()
    text = re.sub(r"[^\W\d_]+", lambda m: _german_word(m[0], learnt), lower)
    return text[:1].upper() + text[1:]
