"""A good tree, and the rows and pairs that are made of trees."""

from scripted import TEMPLATES, critique, response, tree

from avr.core.growth import Shape
from avr.rows.funnel import Funnel
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.tree_pairs import make_pairs

NOTHING: frozenset[str] = frozenset()


def rows_of(*trees, switches=NOTHING):
    funnel = Funnel("rsft")
    return list(select_rsft(trees, TEMPLATES, switches, funnel, shape=Shape())), funnel


def pairs_of(*trees, switches=NOTHING, min_margin=0.0):
    funnels = {kind: Funnel(kind) for kind in KINDS}
    pairs = list(make_pairs(trees, TEMPLATES, switches, funnels, min_margin, Shape()))
    return {kind: [p for p in pairs if p.kind == kind] for kind in KINDS}, funnels


GOOD = tree(
    response("first", 1.0),
    critique("weak", response("a", 0.5), response("b", 1.5)),
    critique("strong", response("c", 1.2), response("d", 3.0)),
)
