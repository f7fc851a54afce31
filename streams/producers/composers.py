"""Composers' full names and eras, for sources that give a surname alone."""

from typing import Final, NamedTuple


class Composer(NamedTuple):
    """A composer's full name and era."""

    full: str
    era: str


_COMPOSERS: Final = {
    "albeniz": Composer("Isaac Albéniz", "Romantic"),
    "bach": Composer("Johann Sebastian Bach", "Baroque"),
    "balakirev": Composer("Mily Balakirev", "Romantic"),
    "bartok": Composer("Béla Bartók", "Modern"),
    "beethoven": Composer("Ludwig van Beethoven", "Classical"),
    "berg": Composer("Alban Berg", "Modern"),
    "brahms": Composer("Johannes Brahms", "Romantic"),
    "busoni": Composer("Ferruccio Busoni", "Romantic"),
    "chopin": Composer("Frédéric Chopin", "Romantic"),
    "clementi": Composer("Muzio Clementi", "Classical"),
    "debussy": Composer("Claude Debussy", "Modern"),
    "franck": Composer("César Franck", "Romantic"),
    "grieg": Composer("Edvard Grieg", "Romantic"),
    "handel": Composer("George Frideric Handel", "Baroque"),
    "haydn": Composer("Joseph Haydn", "Classical"),
    "liszt": Composer("Franz Liszt", "Romantic"),
    "medtner": Composer("Nikolai Medtner", "Modern"),
    "mendelssohn": Composer("Felix Mendelssohn", "Romantic"),
    "mozart": Composer("Wolfgang Amadeus Mozart", "Classical"),
    "mussorgsky": Composer("Modest Mussorgsky", "Romantic"),
    "prokofiev": Composer("Sergei Prokofiev", "Modern"),
    "purcell": Composer("Henry Purcell", "Baroque"),
    "rachmaninoff": Composer("Sergei Rachmaninoff", "Romantic"),
    "rachmaninov": Composer("Sergei Rachmaninoff", "Romantic"),
    "rameau": Composer("Jean-Philippe Rameau", "Baroque"),
    "ravel": Composer("Maurice Ravel", "Modern"),
    "scarlatti": Composer("Domenico Scarlatti", "Baroque"),
    "schubert": Composer("Franz Schubert", "Romantic"),
    "schumann": Composer("Robert Schumann", "Romantic"),
    "scriabin": Composer("Alexander Scriabin", "Romantic"),
    "shostakovich": Composer("Dmitri Shostakovich", "Modern"),
    "skryabin": Composer("Alexander Scriabin", "Romantic"),
    "soler": Composer("Antonio Soler", "Classical"),
    "stravinsky": Composer("Igor Stravinsky", "Modern"),
    "tchaikovsky": Composer("Pyotr Ilyich Tchaikovsky", "Romantic"),
    "weber": Composer("Carl Maria von Weber", "Romantic"),
}
_BY_FULL_NAME: Final = {composer.full.casefold(): composer for composer in _COMPOSERS.values()}


def by_surname(surname: str) -> Composer | None:
    """Return the composer that a data set means by this surname alone."""
    return _COMPOSERS.get(surname.casefold())


def by_full_name(name: str) -> Composer | None:
    """Return the composer of this full name; a bare surname does not do, since families share theirs."""
    return _BY_FULL_NAME.get(name.casefold())
