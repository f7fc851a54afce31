"""Facts that the corpus's files leave out: who the composers were, and what the single scores are."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Composer:
    """A composer: the name to filter on, the full name, and the era."""

    name: str
    full: str
    era: str


@dataclass(frozen=True)
class Score:
    """A work or a set of movements: `movements` names them in the order of the corpus's files."""

    title: str
    form: str
    opus: str | None = None
    year: int | None = None
    ensemble: str | None = None
    instrument: str | None = None
    key: str | None = None
    collection: str | None = None
    movements: tuple[str, ...] = field(default=())


MEDIEVAL, RENAISSANCE, BAROQUE, CLASSICAL, ROMANTIC, MODERN = (
    "Medieval", "Renaissance", "Baroque", "Classical", "Romantic", "Modern",
)  # fmt: skip
COMPOSERS = {
    "bach": Composer("Bach", "Johann Sebastian Bach", BAROQUE),
    "beach": Composer("Beach", "Amy Beach", ROMANTIC),
    "beethoven": Composer("Beethoven", "Ludwig van Beethoven", CLASSICAL),
    "chopin": Composer("Chopin", "Frédéric Chopin", ROMANTIC),
    "ciconia": Composer("Ciconia", "Johannes Ciconia", MEDIEVAL),
    "corelli": Composer("Corelli", "Arcangelo Corelli", BAROQUE),
    "cpebach": Composer("C. P. E. Bach", "Carl Philipp Emanuel Bach", CLASSICAL),
    "handel": Composer("Handel", "George Frideric Handel", BAROQUE),
    "haydn": Composer("Haydn", "Joseph Haydn", CLASSICAL),
    "johnson_j_r": Composer("Johnson", "J. Rosamond Johnson", MODERN),
    "joplin": Composer("Joplin", "Scott Joplin", MODERN),
    "josquin": Composer("Josquin", "Josquin des Prez", RENAISSANCE),
    "liliuokalani": Composer("Lili\u02bbuokalani", "Queen Lili\u02bbuokalani", ROMANTIC),
    "luca": Composer("Luca", "D. Luca", RENAISSANCE),
    "lusitano": Composer("Lusitano", "Vicente Lusitano", RENAISSANCE),
    "monteverdi": Composer("Monteverdi", "Claudio Monteverdi", RENAISSANCE),
    "mozart": Composer("Mozart", "Wolfgang Amadeus Mozart", CLASSICAL),
    "palestrina": Composer("Palestrina", "Giovanni Pierluigi da Palestrina", RENAISSANCE),
    "schoenberg": Composer("Schoenberg", "Arnold Schoenberg", MODERN),
    "schubert": Composer("Schubert", "Franz Schubert", ROMANTIC),
    "schumann_clara": Composer("Clara Schumann", "Clara Schumann", ROMANTIC),
    "schumann_robert": Composer("Schumann", "Robert Schumann", ROMANTIC),
    "verdi": Composer("Verdi", "Giuseppe Verdi", ROMANTIC),
    "weber": Composer("Weber", "Carl Maria von Weber", ROMANTIC),
    "webern": Composer("Webern", "Anton Webern", MODERN),
    "berlin": Composer("Berlin", "Irving Berlin", MODERN),
    "foster": Composer("Foster", "Stephen Foster", ROMANTIC),
    "zacara": Composer("Zacara", "Antonio Zacara da Teramo", MEDIEVAL),
    "landini": Composer("Landini", "Francesco Landini", MEDIEVAL),
    "vitry": Composer("Vitry", "Philippe de Vitry", MEDIEVAL),
    "jacopo": Composer("Jacopo da Bologna", "Jacopo da Bologna", MEDIEVAL),
    "giovanni": Composer("Giovanni da Cascia", "Giovanni da Cascia", MEDIEVAL),
    "piero": Composer("Piero", "Maestro Piero", MEDIEVAL),
    "gherardello": Composer("Gherardello", "Gherardello da Firenze", MEDIEVAL),
    "lorenzo": Composer("Lorenzo", "Lorenzo da Firenze", MEDIEVAL),
    "gratiosus": Composer("Gratiosus", "Gratiosus de Padua", MEDIEVAL),
    "bartholus": Composer("Bartolo", "Bartolo da Firenze", MEDIEVAL),
    "egardus": Composer("Egardus", "Egardus", MEDIEVAL),
    "phillippoctus": Composer("Philippoctus", "Philippoctus de Caserta", MEDIEVAL),
    "perrinet": Composer("Perrinet", "Perrinet", MEDIEVAL),
    "guymont": Composer("Guymont", "Guymont", MEDIEVAL),
    "chipre": Composer("Chipre", "Chipre", MEDIEVAL),
    "graneti": Composer("Graneti", "Johannes Graneti", MEDIEVAL),
}

QUARTETS = "Classical and Romantic String Quartets"


def _quartet(title: str, opus: str, year: int, key: str, *movements: str) -> Score:
    return Score(title, "string quartet", opus, year, "string quartet", None, key, QUARTETS, movements)


# By the folder of a set of movements, or by the file of a single score; both without the ending.
SCORES = {
    "beethoven/opus18no1": _quartet(
        "String Quartet No. 1 in F major", "Op. 18 No. 1", 1799, "F major",
        "Allegro con brio", "Adagio affettuoso ed appassionato", "Scherzo: Allegro molto", "Allegro",
    ),
    "beethoven/opus18no3": _quartet("String Quartet No. 3 in D major", "Op. 18 No. 3", 1799, "D major"),
    "beethoven/opus18no4": _quartet("String Quartet No. 4 in C minor", "Op. 18 No. 4", 1799, "C minor"),
    "beethoven/opus18no5": _quartet("String Quartet No. 5 in A major", "Op. 18 No. 5", 1799, "A major"),
    "beethoven/opus59no1": _quartet(
        "String Quartet No. 7 in F major, “Razumovsky”", "Op. 59 No. 1", 1806, "F major",
        "Allegro", "Allegretto vivace e sempre scherzando", "Adagio molto e mesto", "Thème russe: Allegro",
    ),
    "beethoven/opus59no2": _quartet(
        "String Quartet No. 8 in E minor, “Razumovsky”", "Op. 59 No. 2", 1806, "E minor",
        "Allegro", "Molto adagio", "Allegretto", "Finale: Presto",
    ),
    "beethoven/opus59no3": _quartet(
        "String Quartet No. 9 in C major, “Razumovsky”", "Op. 59 No. 3", 1806, "C major",
        "Andante con moto, Allegro vivace", "Andante con moto quasi allegretto", "Menuetto: Grazioso", "Allegro molto",
    ),
    "beethoven/opus74": _quartet("String Quartet No. 10 in E-flat major, “Harp”", "Op. 74", 1809, "Eb major"),
    "beethoven/opus132": _quartet("String Quartet No. 15 in A minor", "Op. 132", 1825, "A minor"),
    "beethoven/opus133": _quartet("Große Fuge in B-flat major", "Op. 133", 1825, "Bb major"),
    "haydn/opus1no1": _quartet(
        "String Quartet in B-flat major, “La chasse”", "Op. 1 No. 1", 1762, "Bb major",
        "Presto", "Menuetto", "Adagio", "Menuetto", "Presto",
    ),
    "haydn/opus74no1": _quartet(
        "String Quartet in C major", "Op. 74 No. 1", 1793, "C major",
        "Allegro", "Andantino grazioso", "Menuetto", "Finale: Vivace",
    ),
    "mozart/k80": _quartet(
        "String Quartet No. 1 in G major", "K. 80", 1770, "G major", "Adagio", "Allegro", "Menuetto", "Rondeau"
    ),
    "mozart/k155": _quartet(
        "String Quartet No. 2 in D major", "K. 155", 1772, "D major", "Allegro", "Andante", "Molto allegro"
    ),
    "mozart/k156": _quartet(
        "String Quartet No. 3 in G major", "K. 156", 1772, "G major",
        "Presto", "Adagio", "Tempo di Menuetto", "Adagio (other version)",
    ),
    "mozart/k458": _quartet(
        "String Quartet No. 17 in B-flat major, “Hunt”", "K. 458", 1784, "Bb major",
        "Allegro vivace assai", "Menuetto", "Adagio", "Allegro assai",
    ),
    "schumann_robert/opus41no1": _quartet(
        "String Quartet No. 1 in A minor", "Op. 41 No. 1", 1842, "A minor",
        "Introduzione: Andante espressivo, Allegro", "Scherzo: Presto", "Intermezzo", "Adagio", "Presto",
    ),
    "mozart/k545": Score(
        "Piano Sonata No. 16 in C major", "sonata", "K. 545", 1788, None, "piano", "C major", None,
        ("Allegro (exposition)",),
    ),
    "beach/prayer_of_a_tired_child": Score(
        "Prayer of a Tired Child", "part song", "Op. 75 No. 4", 1914, "women's choir and piano"
    ),
    "chopin/mazurka06-2": Score(
        "Mazurka in C-sharp minor", "mazurka", "Op. 6 No. 2", 1832, None, "piano", "C# minor"
    ),
    "ciconia/quod_jactatur": Score("Quod jactatur", "canon", None, None, None, "voice"),
    "corelli/opus3no1": Score(
        "Sonata da chiesa in F major", "trio sonata", "Op. 3 No. 1", 1689, "two violins and continuo", None,
        "F major", None, ("Grave",),
    ),
    "cpebach/h186": Score(
        "Sonata in A major: Poco adagio", "sonata", "H. 186", None, None, "keyboard", "A major"
    ),
    "handel/rinaldo": Score(
        "Lascia ch'io pianga, from Rinaldo", "aria", "HWV 7", 1711, "voice and continuo"
    ),
    "johnson_j_r/lift_every_voice": Score("Lift Every Voice and Sing", "hymn", None, 1900, "voices and piano"),
    "joplin/maple_leaf_rag": Score("Maple Leaf Rag", "rag", None, 1899, None, "piano", "Ab major"),
    "josquin/4vPerIlludAveProlatum": Score("Per illud ave prolatum", "motet"),
    "josquin/adieuMesAmours": Score("Adieu mes amours", "chanson"),
    "josquin/fortunaDunGranTempo": Score("Fortuna d'un gran tempo", "chanson"),
    "josquin/laDeplorationDeLaMorteDeJohannesOckeghem": Score(
        "La déploration de la mort de Johannes Ockeghem", "chanson", None, 1497
    ),
    "josquin/laPlusDesPlus": Score("La plus des plus", "chanson"),
    "josquin/milleRegrets": Score("Mille regrets", "chanson"),
    "josquin/oVenusBant": Score("O Venus bant", "chanson"),
    "josquin/petiteCamusette": Score("Petite camusette", "chanson"),
    "liliuokalani/aloha_oe": Score("Aloha \u02bbOe", "song", None, 1878, "voice and piano"),
    "luca/gloria": Score("Gloria", "mass movement"),
    "lusitano/allor_che_ignuda": Score("Allor che ignuda d'herb'et fior la terra", "madrigal"),
    "schoenberg/opus19": Score(
        "Sechs kleine Klavierstücke", "piano piece", "Op. 19", 1911, None, "piano",
    ),
    "schubert/Lindenbaum": Score(
        "Der Lindenbaum, from Winterreise", "lied", "D. 911 No. 5", 1827, "voice and piano", None, "E major"
    ),
    "schumann_clara/opus17": Score(
        "Piano Trio in G minor", "piano trio", "Op. 17", 1846, "piano trio", None, None, None, ("Andante",)
    ),
    "schumann_clara/polonaise_op1n1": Score("Polonaise No. 1", "polonaise", "Op. 1 No. 1", 1831, None, "piano"),
    "schumann_clara/polonaise_op1n2": Score("Polonaise No. 2", "polonaise", "Op. 1 No. 2", 1831, None, "piano"),
    "schumann_clara/polonaise_op1n3": Score("Polonaise No. 3", "polonaise", "Op. 1 No. 3", 1831, None, "piano"),
    "schumann_clara/polonaise_op1n4": Score("Polonaise No. 4", "polonaise", "Op. 1 No. 4", 1831, None, "piano"),
    "schumann_robert/dichterliebe_no2": Score(
        "Aus meinen Tränen sprießen, from Dichterliebe", "lied", "Op. 48 No. 2", 1840, "voice and piano"
    ),
    "schumann_robert/opus48no2": Score(
        "Aus meinen Tränen sprießen, from Dichterliebe", "lied", "Op. 48 No. 2", 1840, "voice and piano"
    ),
    "verdi/laDonnaEMobile": Score("La donna è mobile, from Rigoletto", "aria", None, 1851, "voice and piano"),
    "weber/concertino_clarinet": Score(
        "Clarinet Concertino", "concertino", "Op. 26", 1811, "clarinet and piano", None, None
    ),
    "webern/webern_dormi_jesu_op_16_no_2": Score(
        "Dormi Jesu", "canon", "Op. 16 No. 2", 1923, "voice and clarinet"
    ),
    "leadSheet/berlinAlexandersRagtime": Score("Alexander's Ragtime Band", "song", None, 1911),
    "leadSheet/fosterBrownHair": Score("Jeanie with the Light Brown Hair", "song", None, 1854),
}  # fmt: skip

# Chorale melodies of the Bach settings that the corpus's own list of chorales doesn't name.
CHORALES = {
    "1.6": "Wie schön leuchtet der Morgenstern", "7.7": "Christ, unser Herr, zum Jordan kam",
    "12.7": "Was Gott tut, das ist wohlgetan", "18.5-lz": "Durch Adams Fall ist ganz verderbt",
    "31.9": "Wenn mein Stündlein vorhanden ist", "52.6": "In dich hab ich gehoffet, Herr",
    "59.3": "Komm, Heiliger Geist, Herre Gott", "66.6": "Christ ist erstanden", "70.7": "Meinen Jesum lass ich nicht",
    "72.6": "Was mein Gott will, das g'scheh allzeit", "79.3": "Nun danket alle Gott",
    "79.6": "Nun lasst uns Gott, dem Herren", "92.9": "Was mein Gott will, das g'scheh allzeit",
    "93.7": "Wer nur den lieben Gott lässt walten", "95.7": "Wenn mein Stündlein vorhanden ist",
    "97.9": "In allen meinen Taten", "99.6": "Was Gott tut, das ist wohlgetan",
    "111.6": "Was mein Gott will, das g'scheh allzeit", "112.5-sc": "Allein Gott in der Höh sei Ehr",
    "116.6": "Du Friedefürst, Herr Jesu Christ", "119.9": "Herr Gott, dich loben wir",
    "120.6": "Herr Gott, dich loben wir", "124.6": "Meinen Jesum lass ich nicht",
    "125.6": "Mit Fried und Freud ich fahr dahin", "128.5": "O Gott, du frommer Gott",
    "130.6": "Herr Gott, dich loben alle wir", "135.6": "Herzlich tut mich verlangen",
    "137.5": "Lobe den Herren, den mächtigen König der Ehren", "139.6": "Mach's mit mir, Gott, nach deiner Güt",
    "146.8": "Werde munter, mein Gemüte", "149.7": "Herzlich lieb hab ich dich, o Herr",
    "157.5": "Meinen Jesum lass ich nicht", "162.6-lpz": "Alle Menschen müssen sterben",
    "165.6": "Nun lasst uns Gott, dem Herren", "171.6": "Jesu, nun sei gepreiset",
    "175.7": "Komm, Heiliger Geist, Herre Gott", "178.7": "Wo Gott der Herr nicht bei uns hält",
    "185.6": "Ich ruf zu dir, Herr Jesu Christ", "188.6": "Auf meinen lieben Gott",
    "190.7-inst": "Jesu, nun sei gepreiset", "195.6": "Lobt Gott, ihr Christen, allzugleich",
    "227.3": "Jesu, meine Freude", "244.17": "Herzlich tut mich verlangen",
    "244.29-a": "Meinen Jesum lass ich nicht", "245.5": "Vater unser im Himmelreich",
    "248.17": "Vom Himmel hoch, da komm ich her", "248.23-s": "Vom Himmel hoch, da komm ich her",
    "248.28": "Gelobet seist du, Jesu Christ", "248.64-6": "Herzlich tut mich verlangen",
    "248.64-s": "Herzlich tut mich verlangen", "248.9-s": "Vom Himmel hoch, da komm ich her",
}  # fmt: skip
# Works in the Bach folder that are no chorales: title, form, instrument.
BACH_OTHERS = {
    "846": ("Prelude in C major, from The Well-Tempered Clavier, Book 1", "prelude", "keyboard"),
}
