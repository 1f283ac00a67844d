"""Triangles of people and items: how often two people stand in the same pattern of three, as sparse matrices.

With B the mutual and U the one-way ties, R who had what, and ∘ the product entry by entry::

    A1 = C + Cᵀ,  C = (U U) ∘ Uᵀ                                        a ring of one-way ties
    A2 = C + Cᵀ,  C = (B U) ∘ Uᵀ + (U B) ∘ Uᵀ + (U U) ∘ B               a ring with one mutual tie
    A3 = C + Cᵀ,  C = (B B) ∘ U + (B U) ∘ B + (U B) ∘ B                 two mutual ties
    A4 = (B B) ∘ B                                                      three
    A5 = C + Cᵀ,  C = (U U) ∘ U + (U Uᵀ) ∘ U + (Uᵀ U) ∘ U               one-way ties, no ring
    A6 = (U B) ∘ U + (B Uᵀ) ∘ Uᵀ + (Uᵀ U) ∘ B                           someone tied to two who are tied mutually
    A7 = (Uᵀ B) ∘ Uᵀ + (B U) ∘ U + (U Uᵀ) ∘ B                           two who are tied mutually, both tied to someone
    A8 = (R Rᵀ) ∘ B,   A9 = (R Rᵀ) ∘ U + its transpose                  friends who had the same item
    A10 = R Rᵀ - A8 - A9                                                people who are not tied and had the same item

Source: A. Benson et al., "Higher-order organization of complex networks", Science 2016; A10 and the grouping into channels: J.
Yu et al., "Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social Recommendation", WWW 2021, table 1.
Differences: A10 pairs nobody with themselves (a triangle has three corners; published code leaves the number of a person's own
items on the diagonal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.nn.social import SocialGraph, common_items, masked_product, strongest


@dataclass(frozen=True, eq=False)
class Channels:
    """Motif adjacencies (users x users, counts) summed by kind: ties alone, ties and items, items alone."""

    social: sparse.csr_matrix
    joint: sparse.csr_matrix
    purchase: sparse.csr_matrix


def social_motifs(graph: SocialGraph) -> tuple[sparse.csr_matrix, ...]:
    """Return A1 to A7."""
    b, u = graph.mutual, graph.one_way
    ut = sparse.csr_matrix(u.T)
    p = masked_product
    rings = p(u, u, ut)
    mutual_rings = p(b, u, ut) + p(u, b, ut) + p(u, u, b)
    two_mutual = p(b, b, u) + p(b, u, b) + p(u, b, b)
    ordered = p(u, u, u) + p(u, ut, u) + p(ut, u, u)
    return (
        _both(rings),
        _both(mutual_rings),
        _both(two_mutual),
        p(b, b, b),
        _both(ordered),
        p(u, b, u) + p(b, ut, ut) + p(ut, u, b),
        p(ut, b, ut) + p(b, u, u) + p(u, ut, b),
    )


def item_motifs(
    graph: SocialGraph, matrix: sparse.csr_matrix, least: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]:
    """Return A8, A9 and A10, the last without pairs of fewer than ``least`` common items."""
    back = sparse.csr_matrix(matrix.T)
    friends, followers = (masked_product(matrix, back, ties) for ties in (graph.mutual, graph.one_way))
    others = common_items(matrix, least)
    others = others - others.multiply(graph.either)
    others = sparse.csr_matrix(others, dtype=np.float32)
    others.eliminate_zeros()
    return friends, _both(followers), others


def channels(graph: SocialGraph, matrix: sparse.csr_matrix, *, least: int = 4, most: int = 0) -> Channels:
    """Return the three channels.

    Parameters
    ----------
    graph, matrix
        Ties; users x items, ones.
    least
        Fewest items in common that make two people who are not tied a pair.
    most
        Most such pairs of a person, those with the most items in common (0 = all).
    """
    friends, followers, others = item_motifs(graph, matrix, least)
    first, *rest = social_motifs(graph)
    social = sum(rest, first)
    return Channels(social, friends + followers, strongest(others, most) if most else others)


def _both(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix(matrix + matrix.T)
