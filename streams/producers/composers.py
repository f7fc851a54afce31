"""Composers' full names and eras, for sources that give a surname alone."""

from typing import Final, NamedTuple


class ComposerFacts(NamedTuple):
    """A composer's full name and era."""

    full: str
    era: str


_COMPOSERS: Final = {
    "albeniz": ComposerFacts("Isaac Albéniz", "Romantic"),
    "bach": ComposerFacts("Johann Sebastian Bach", "Baroque"),
    "balakirev": ComposerFacts("Mily Balakirev", "Romantic"),
    "bartok": ComposerFacts("Béla Bartók", "Modern"),
    "beethoven": ComposerFacts("Ludwig van Beethoven", "Classical"),
    "berg": ComposerFacts("Alban Berg", "Modern"),
    "brahms": ComposerFacts("Johannes Brahms", "Romantic"),
    "busoni": ComposerFacts("Ferruccio Busoni", "Romantic"),
    "chopin": ComposerFacts("Frédéric Chopin", "Romantic"),
    "clementi": ComposerFacts("Muzio Clementi", "Classical"),
    "debussy": ComposerFacts("Claude Debussy", "Modern"),
    "franck": ComposerFacts("César Franck", "Romantic"),
    "grieg": ComposerFacts("Edvard Grieg", "Romantic"),
    "handel": ComposerFacts("George Frideric Handel", "Baroque"),
    "haydn": ComposerFacts("Joseph Haydn", "Classical"),
    "liszt": ComposerFacts("Franz Liszt", "Romantic"),
    "medtner": ComposerFacts("Nikolai Medtner", "Modern"),
    "mendelssohn": ComposerFacts("Felix Mendelssohn", "Romantic"),
    "mozart": ComposerFacts("Wolfgang Amadeus Mozart", "Classical"),
    "mussorgsky": ComposerFacts("Modest Mussorgsky", "Romantic"),
    "prokofiev": ComposerFacts("Sergei Prokofiev", "Modern"),
    "purcell": ComposerFacts("Henry Purcell", "Baroque"),
    "rachmaninoff": ComposerFacts("Sergei Rachmaninoff", "Romantic"),
    "rachmaninov": ComposerFacts("Sergei Rachmaninoff", "Romantic"),
    "rameau": ComposerFacts("Jean-Philippe Rameau", "Baroque"),
    "ravel": ComposerFacts("Maurice Ravel", "Modern"),
    "scarlatti": ComposerFacts("Domenico Scarlatti", "Baroque"),
    "schubert": ComposerFacts("Franz Schubert", "Romantic"),
    "schumann": ComposerFacts("Robert Schumann", "Romantic"),
    "scriabin": ComposerFacts("Alexander Scriabin", "Romantic"),
    "shostakovich": ComposerFacts("Dmitri Shostakovich", "Modern"),
    "skryabin": ComposerFacts("Alexander Scriabin", "Romantic"),
    "soler": ComposerFacts("Antonio Soler", "Classical"),
    "stravinsky": ComposerFacts("Igor Stravinsky", "Modern"),
    "tchaikovsky": ComposerFacts("Pyotr Ilyich Tchaikovsky", "Romantic"),
    "weber": ComposerFacts("Carl Maria von Weber", "Romantic"),
}
_BY_FULL_NAME: Final = {composer.full.casefold(): composer for composer in _COMPOSERS.values()}


def by_surname(surname: str) -> ComposerFacts | None:
    """Return the composer that a data set means by this surname alone."""
    return _COMPOSERS.get(surname.casefold())


def by_full_name(name: str) -> ComposerFacts | None:
    """Return the composer of this full name; a bare surname does not do, since families share theirs."""
    return _BY_FULL_NAME.get(name.casefold())
