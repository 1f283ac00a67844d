"""The social graph and its triangles: what is dropped, and every motif against a count by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn import social as module
from palate.nn.motifs import channels, item_motifs, social_motifs
from palate.nn.social import SocialGraph, common_items, masked_product, strongest
from palate.nn.sparse import row_normalised, symmetric_normalised

N, ITEMS = 30, 20


def network(seed=0, density=0.25):
    rng = np.random.default_rng(seed)
    dense = rng.random((N, N)) < density
    dense |= (rng.random((N, N)) < 0.5) & dense.T
    np.fill_diagonal(dense, False)
    dense[7], dense[:, 7] = False, False
    matrix = sparse.csr_matrix((rng.random((N, ITEMS)) < 0.3).astype(np.float32))
    return SocialGraph.of_pairs(*np.nonzero(dense), np.ones(N, bool)), dense, matrix


def by_enumeration(s):
    """Count, for every pair, the triples of people of each pattern that hold both."""
    found = np.zeros((7, N, N), int)
    for triple in combinations(range(N), 3):
        pairs = list(combinations(triple, 2))
        if not all(s[a, b] or s[b, a] for a, b in pairs):
            continue
        mutual = [(a, b) for a, b in pairs if s[a, b] and s[b, a]]
        for a, b in pairs:
            found[kind(s, triple, mutual), [a, b], [b, a]] += 1
    return found


def kind(s, triple, mutual):
    if len(mutual) == 3:
        return 3
    if len(mutual) == 2:
        return 2
    if len(mutual) == 1:
        (third,) = set(triple) - set(mutual[0])
        out = [s[third, end] for end in mutual[0]]
        return 5 if all(out) else 1 if any(out) else 6
    degrees = sorted(sum(s[a, b] for b in triple) for a in triple)
    return 0 if degrees == [1, 1, 1] else 4


@pytest.mark.parametrize("seed", range(3))
def test_motifs_are_what_enumeration_finds(seed):
    graph, dense, _ = network(seed)
    wanted = by_enumeration(dense)
    assert (wanted.sum((1, 2)) > 0).all(), "every pattern must occur"
    for number, (got, want) in enumerate(zip(social_motifs(graph), wanted, strict=True), 1):
        np.testing.assert_array_equal(got.toarray(), want, err_msg=f"A{number}")


@pytest.mark.parametrize("least", [1, 2, 4])
def test_motifs_with_items(least):
    graph, s, matrix = network(4)
    r = matrix.toarray()
    friends, followers, others = (part.toarray() for part in item_motifs(graph, matrix, least))
    for a in range(N):
        for b in range(N):
            common = int((r[a] * r[b]).sum())
            assert friends[a, b] == (common if s[a, b] and s[b, a] else 0)
            assert followers[a, b] == (common if s[a, b] != s[b, a] else 0)
            alone = a != b and not s[a, b] and not s[b, a] and common >= least
            assert others[a, b] == (common if alone else 0)


def test_the_published_diagonal_is_gone():
    """R Rᵀ - A8 - A9 as the published code has it leaves a person's own items on the diagonal: a heavy self-loop."""
    graph, _, matrix = network(4)
    friends, followers, others = item_motifs(graph, matrix, 1)
    published = (matrix @ matrix.T - friends - followers).toarray()
    assert (published.diagonal() > 0).any() and not others.diagonal().any()
    np.fill_diagonal(published, 0)
    np.testing.assert_array_equal(others.toarray(), published)


def test_rows_of_channels_sum_to_one_or_zero_and_isolated_people_have_none():
    graph, _, matrix = network(2)
    found = channels(graph, matrix, least=2, most=5)
    for part in (found.social, found.joint, found.purchase):
        sums = np.asarray(row_normalised(part).sum(1)).ravel()
        assert np.isfinite(sums).all() and np.all(np.isclose(sums, 1, atol=1e-6) | (sums == 0))
    assert not found.social[7].nnz and not found.joint[7].nnz
    assert (np.diff(found.purchase.indptr) <= 5).all()


def test_a_network_of_mutual_ties_has_only_mutual_motifs():
    graph, dense, matrix = network(0)
    both = SocialGraph.of_pairs(*np.nonzero(dense | dense.T), np.ones(N, bool))
    counts = [part.nnz for part in (*social_motifs(both), *item_motifs(both, matrix, 1))]
    assert [at for at, count in enumerate(counts, 1) if count] == [4, 8, 10]
    assert graph.one_way.nnz


def test_blocks_change_nothing(monkeypatch):
    graph, _, matrix = network(1)
    whole = [*social_motifs(graph), *item_motifs(graph, matrix, 2)]
    monkeypatch.setattr(module, "BLOCK_WORK", 7)
    for first, second in zip(whole, [*social_motifs(graph), *item_motifs(graph, matrix, 2)], strict=True):
        np.testing.assert_array_equal(first.toarray(), second.toarray())


def test_products_and_common_items_by_definition():
    rng = np.random.default_rng(0)
    x, y, mask = (sparse.csr_matrix((rng.random((9, 9)) < 0.4).astype(np.float32)) for _ in range(3))
    np.testing.assert_array_equal(masked_product(x, y, mask).toarray(), (x @ y).toarray() * mask.toarray())
    common = common_items(x, 2).toarray()
    wanted = (x @ x.T).toarray()
    np.fill_diagonal(wanted, 0)
    np.testing.assert_array_equal(common, np.where(wanted >= 2, wanted, 0))
    nothing = sparse.csr_matrix((3, 4), dtype=np.float32)
    assert common_items(nothing, 1).shape == (3, 3) and not common_items(nothing, 1).nnz


def test_strongest_keeps_the_largest_and_the_first_of_equals():
    rows = sparse.csr_matrix(np.array([[0, 3, 5, 3, 3], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], np.float32))
    np.testing.assert_array_equal(strongest(rows, 2).toarray(), [[0, 3, 5, 0, 0], [0, 0, 0, 0, 1], [0] * 5])


def test_normalisation_guards_isolated_rows():
    matrix = sparse.csr_matrix(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], np.float32))
    matrix.resize(4, 4)
    np.testing.assert_allclose(row_normalised(matrix).toarray()[0], [0, 0.5, 0.5, 0])
    found = symmetric_normalised(matrix).toarray()
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found[0, 1], 1 / np.sqrt(2), atol=1e-6)
    assert not found[3].any()


def test_what_is_dropped_is_counted():
    head = [0, 0, 0, 1, 2, 3, 1, 9, -1, 2]
    tail = [1, 1, 0, 0, 1, 0, 2, 0, 1, 0]
    weight = [1, 1, 1, 1, 1, 1, 1, 1, 1, -1]
    trained = np.array([True, True, True, False])
    graph = SocialGraph.of_pairs(np.array(head), np.array(tail), trained, np.array(weight))
    wanted = {"given": 10, "kept": 4, "outside": 3, "loops": 1, "distrust": 1, "doubles": 1, "mutual": 4}
    assert graph.counts == wanted
    np.testing.assert_array_equal(graph.ties.toarray(), [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0] * 4])


def test_missing_or_useless_ties_are_named():
    data = Dataset.from_columns([0, 1, 2], [0, 1, 2])
    names = Vocabulary(["knows"])

    def tied(head, tail, heads="user"):
        ends = np.array(head, np.int32), np.array(tail, np.int32)
        return data.derive({"step": "x"}, graphs={"social": Graph(ends[0], 0 * ends[0], ends[1], heads, "user", names)})

    with pytest.raises(DataError, match=r"needs social ties, and the data have none[\s\S]*next:.*ties"):
        SocialGraph.of(data, "X")
    for faulty in (tied([], []), tied([0, 1], [0, 1])):
        with pytest.raises(DataError, match=r"none of those given[\s\S]*next:"):
            SocialGraph.of(faulty, "X")
    with pytest.raises(DataError, match="between users"):
        SocialGraph.of(tied([0], [1], "item"), "X")
    assert SocialGraph.of(tied([0], [1]), "X").counts["kept"] == 1
