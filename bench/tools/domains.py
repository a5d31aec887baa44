"""The tools of `bench.tools`: what each is for, its arguments, and how people ask for it with all of them in the text.

They were written for this benchmark, in fields far from one another, so that only one can fit a request.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Words:
    """A text: in half of the cases a word that does not exist, else one of these."""

    usual: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number between these, both included."""

    least: int
    most: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these texts, as the schema says too."""

    choices: tuple[str, ...]
    description: str = ""


Kind: TypeAlias = Words | Count | OneOf


@dataclass(frozen=True, slots=True)
class Domain:
    """A tool, its arguments by name, and requests that name each of them once."""

    name: str
    description: str
    arguments: dict[str, Kind]
    requests: tuple[str, ...]


DOMAINS = (
    Domain(
        "open_greenhouse_vent",
        "Open the roof vent of a greenhouse by so many percent",
        {"greenhouse": Words(("north", "orchid", "east")), "percent": Count(5, 95)},
        (
            "Open the vent of the {greenhouse} greenhouse to {percent} percent.",
            "Vent greenhouse {greenhouse}: {percent}%",
        ),
    ),
    Domain(
        "ferry_timetable",
        "Show when ferries leave a harbour",
        {"harbour": Words(("Kiel", "Dover", "Bergen"), "Name of the harbour")},
        ("When do ferries leave {harbour}?", "I need the ferry times from {harbour} please"),
    ),
    Domain(
        "reservoir_level",
        "Read the water level of a reservoir",
        {"reservoir": Words(("Mead", "Edersee", "Kariba"))},
        ("How full is the {reservoir} reservoir?", "Give me the water level at {reservoir}."),
    ),
    Domain(
        "reserve_kiln",
        "Reserve a pottery kiln for some hours",
        {"kiln": Words(("blue", "big", "raku")), "hours": Count(2, 30)},
        ("Reserve the {kiln} kiln for {hours} hours.", "I want to fire pots: book kiln {kiln} for {hours} hours"),
    ),
    Domain(
        "feed_aquarium",
        "Drop food into an aquarium",
        {"tank": Words(("reef", "lobby", "guppy")), "grams": Count(1, 40)},
        ("Feed the fish in the {tank} tank, {grams} grams.", "Give {grams} grams of food to aquarium {tank}"),
    ),
    Domain(
        "telescope_point",
        "Point the telescope at an object in the sky",
        {"target": Words(("Vega", "Saturn", "Rigel"), "Name of the object")},
        ("Point the telescope at {target}.", "I would like to look at {target} through the telescope"),
    ),
    Domain(
        "beehive_weight",
        "Weigh a beehive",
        {"hive": Words(("Maple", "Orchard", "Hilltop"))},
        ("How heavy is the {hive} beehive now?", "Weigh hive {hive} for me."),
    ),
    Domain(
        "ski_lift_status",
        "Tell whether a ski lift is running",
        {"lift": Words(("Summit", "Gondola", "Rosskopf"))},
        ("Is the {lift} ski lift running?", "Check if the {lift} lift is open for skiing"),
    ),
    Domain(
        "tune_piano",
        "Order a piano tuner for a room",
        {"room": Words(("hall", "studio", "chapel")), "pitch_hz": Count(435, 446, "Pitch of the A")},
        ("Have the piano in the {room} tuned to {pitch_hz} hertz.", "Tune the {room} piano, A at {pitch_hz} Hz please"),
    ),
    Domain(
        "register_dog",
        "Enter a dog into the town's register",
        {"dog_name": Words(("Bello", "Rex", "Luna")), "owner": Words(("Meyer", "Okafor", "Silva"))},
        ("Register the dog {dog_name} of owner {owner}.", "My name is {owner}. Please register my dog {dog_name}."),
    ),
    Domain(
        "elevator_call",
        "Send an elevator to a floor",
        {"elevator": OneOf(("left", "right", "freight")), "floor": Count(1, 48)},
        ("Send the {elevator} elevator to floor {floor}.", "Elevator {elevator} should go to floor {floor} now"),
    ),
    Domain(
        "crane_wind_limit",
        "Set the wind speed at which a crane stops",
        {"crane": Words(("Atlas", "C3", "Harbour")), "speed_kmh": Count(20, 70)},
        (
            "Stop crane {crane} when the wind is above {speed_kmh} km/h.",
            "Wind limit of the {crane} crane: {speed_kmh} km/h",
        ),
    ),
    Domain(
        "lend_museum_item",
        "Lend an item of the museum's collection to another museum",
        {"item": Words(("vase", "sextant", "globe")), "borrower": Words(("Louvre", "Prado", "Zwinger"))},
        ("Lend the {item} to the {borrower} museum.", "The {borrower} museum would like to borrow our {item}; lend it"),
    ),
    Domain(
        "stage_light",
        "Set the colour of a stage light",
        {"light": Count(1, 60, "Number of the light"), "colour": OneOf(("red", "amber", "green", "violet"))},
        ("Make stage light {light} {colour}.", "Set light number {light} on the stage to {colour}"),
    ),
    Domain(
        "vineyard_frost_alarm",
        "Switch the frost alarm of a vineyard on or off",
        {"vineyard": Words(("Sonnenberg", "Lower", "Creek")), "state": OneOf(("on", "off"))},
        (
            "Turn the frost alarm of the {vineyard} vineyard {state}.",
            "Frost alarm {state} for vineyard {vineyard} please",
        ),
    ),
    Domain(
        "chess_pairing",
        "Find out whom a chess player meets in a round",
        {"player": Words(("Polgar", "Carlsen", "Anand")), "round": Count(1, 11)},
        (
            "Whom does {player} play in round {round} of the chess tournament?",
            "Pairing of {player}, chess round {round}",
        ),
    ),
    Domain(
        "tram_delay",
        "Tell how late a tram line is",
        {"line": Count(1, 99, "Number of the line")},
        ("How late is tram {line}?", "Is there a delay on tram line {line} today?"),
    ),
    Domain(
        "sauna_heat",
        "Heat a sauna to a temperature",
        {"sauna": Words(("lake", "attic", "club")), "celsius": Count(60, 105)},
        ("Heat the {sauna} sauna to {celsius} degrees.", "I want {celsius} degrees in sauna {sauna}"),
    ),
    Domain(
        "seed_stock",
        "Count the bags of a kind of seed in the barn",
        {"plant": Words(("barley", "clover", "flax"))},
        ("How many bags of {plant} seed are in the barn?", "Count our {plant} seed bags"),
    ),
    Domain(
        "drone_return",
        "Call a drone back to its base",
        {"drone": Words(("Falcon", "Moth", "Swift"), "Name of the drone")},
        ("Call the drone {drone} back.", "Bring drone {drone} home to its base"),
    ),
)

TALK = (
    "What is the capital of Peru?",
    "Thank you, that was very kind of you.",
    "Write a short poem about rain.",
    "Why is the sky blue?",
    "Tell me a joke about a cow.",
    "What does the word 'ancient' mean?",
    "Good morning! How are you?",
    "Explain in one sentence what gravity is.",
    "How many legs does a spider have?",
    "Which is larger, the Moon or the Earth?",
    "Give me three names for a cat.",
    "What comes after Wednesday?",
    "Who wrote Hamlet?",
    "Describe the taste of a lemon.",
    "Can you help me to write a letter to my grandmother?",
)
