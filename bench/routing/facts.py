"""Questions with a word that a right answer has, for `bench.routing`: some that any model knows, some that few do."""

CAPITALS = """
France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna, Greece Athens, Poland Warsaw,
Hungary Budapest, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin, Russia Moscow,
Japan Tokyo, China Beijing, Egypt Cairo, Kenya Nairobi, Canada Ottawa, Australia Canberra, Brazil Brasilia, Chile
Santiago, Peru Lima, Cuba Havana, Turkey Ankara, Iran Tehran, Iraq Baghdad, Thailand Bangkok, Vietnam Hanoi, Nepal
Kathmandu, Mongolia Ulaanbaatar, Latvia Riga, Estonia Tallinn, Lithuania Vilnius, Bulgaria Sofia, Romania Bucharest,
Croatia Zagreb, Slovenia Ljubljana, Slovakia Bratislava, Iceland Reykjavik, Malta Valletta, Cyprus Nicosia, Ghana
Accra, Senegal Dakar, Uganda Kampala, Zambia Lusaka, Angola Luanda, Bolivia Sucre, Uruguay Montevideo
"""
OPPOSITES = """
hot cold, big small, up down, left right, day night, black white, open closed, happy sad, fast slow, early late, wet
dry, rich poor, young old, hard soft, full empty, strong weak, thick thin, loud quiet, begin end, love hate
"""
AUTHORS = """
Hamlet Shakespeare, Faust Goethe, Emma Austen, Ulysses Joyce, 1984 Orwell, Dracula Stoker, Frankenstein Shelley,
Middlemarch Eliot, Walden Thoreau, Candide Voltaire, Metamorphosis Kafka, Siddhartha Hesse
"""
ELEMENTS = """
gold Au, silver Ag, iron Fe, lead Pb, tin Sn, sodium Na, potassium K, copper Cu, mercury Hg, tungsten W, oxygen O,
carbon C
"""
NEXT = """
Monday Tuesday, Wednesday Thursday, Friday Saturday, January February, March April, July August, October November,
spring summer, one two, seven eight, nineteen twenty, A B
"""
FACTS = (
    ("What is the capital of {}?", CAPITALS),
    ("What is the opposite of the word '{}'?", OPPOSITES),
    ("Who wrote the book '{}'?", AUTHORS),
    ("What is the chemical symbol of {}?", ELEMENTS),
    ("What comes right after {}?", NEXT),
)
"""Questions, and what stands for the blank with the word of the answer."""


def questions() -> list[tuple[str, str]]:
    """Every question with its word."""
    return [
        (question.format(pair.split()[0]), pair.split()[1]) for question, pairs in FACTS for pair in pairs.split(",")
    ]
