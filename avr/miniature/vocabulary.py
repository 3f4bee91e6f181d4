"""Define the closed vocabulary: 30 categories of real English words, each word in only one.

All of it is ours. Standard library only.
"""

from __future__ import annotations

_WORDS = """
fruits: apple pear plum peach cherry grape mango banana lemon melon apricot
vegetables: carrot onion spinach celery cabbage leek turnip radish pumpkin broccoli beetroot
birds: robin sparrow eagle heron owl falcon pigeon swan raven stork thrush
fishes: trout salmon tuna cod herring perch carp mackerel sardine eel halibut
insects: beetle wasp moth cricket mosquito termite ladybug hornet bee ant dragonfly
trees: oak maple birch willow cedar elm poplar spruce beech larch sycamore
flowers: rose tulip daisy lily orchid daffodil poppy carnation lavender marigold iris
mammals: horse otter badger wolf rabbit camel giraffe beaver weasel moose leopard
reptiles: lizard gecko iguana python tortoise crocodile viper cobra chameleon alligator turtle
tools: hammer saw drill chisel wrench pliers screwdriver shovel rake axe spanner
weapons: sword dagger spear rifle pistol cannon crossbow lance musket mace harpoon
vehicles: car bus truck tram bicycle scooter van tractor motorcycle ambulance taxi
boats: canoe kayak ferry yacht raft barge schooner dinghy gondola catamaran tugboat
instruments: piano violin flute guitar trumpet cello harp oboe clarinet banjo trombone
sports: tennis soccer hockey rugby judo golf boxing rowing archery fencing volleyball
dances: waltz tango ballet samba polka salsa foxtrot flamenco rumba mambo minuet
garments: shirt skirt jacket sweater scarf glove sock coat trousers vest blouse
fabrics: cotton silk wool linen velvet denim satin nylon felt corduroy polyester
metals: iron copper zinc nickel tin lead aluminium titanium chromium tungsten cobalt
gems: ruby emerald diamond sapphire topaz opal garnet amethyst jade pearl agate
colors: red blue green yellow purple pink brown gray turquoise beige crimson
shapes: circle square triangle cube sphere cone hexagon pyramid oval cylinder rhombus
spices: cinnamon pepper ginger nutmeg saffron cumin paprika turmeric cardamom clove vanilla
drinks: water tea coffee milk juice wine beer cider lemonade cocoa whisky
desserts: cake pudding pie custard brownie sorbet tiramisu cheesecake pavlova trifle sundae
professions: doctor baker lawyer pilot farmer nurse plumber teacher carpenter tailor dentist
rooms: kitchen bedroom bathroom attic cellar pantry hallway study lounge nursery laundry
emotions: joy anger fear sadness envy pride shame hope disgust grief delight
organs: heart liver kidney lung stomach brain spleen bladder pancreas skin intestine
games: chess poker checkers bingo dominoes backgammon solitaire charades hopscotch marbles darts
"""


def _read_categories(text: str) -> dict[str, tuple[str, ...]]:
    lines = (line.split(": ") for line in text.strip().splitlines())
    return {name: tuple(words.split()) for name, words in lines}


#: Category name (plural, lower case) to its words, in a fixed order.
CATEGORIES: dict[str, tuple[str, ...]] = _read_categories(_WORDS)

#: Word to the one category it belongs to.
CATEGORY_OF: dict[str, str] = {
    word: category for category, words in CATEGORIES.items() for word in words
}

#: Requested counts; the value is the number that the word names.
COUNTS: dict[str, int] = {"two": 2, "three": 3, "four": 4}

#: Ways to open and close a request; wording carries no meaning for the oracle.
OPENINGS: tuple[tuple[str, str], ...] = (
    ("List ", "."),
    ("Name ", "."),
    ("Please give me ", "."),
    ("I need ", "."),
    ("Can you list ", "?"),
    ("Think of ", "."),
)

#: Sentences an answer may end with: they add length and no quality.
FILLERS: tuple[str, ...] = (
    "I hope this helps.",
    "Let me know if you need more.",
    "These came to mind first.",
    "All of these are well known.",
    "Feel free to ask again at any time.",
    "Thank you for asking such a nice question.",
)
