"""Vectors of fields: bags are means, numbers scale, sequences are kept whole; products of pairs; gradients as platorch."""

import numpy as np
import pytest
import torch

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.fields import FieldVectors, pair_products, pair_products_reference

#: Two single fields, a bag of three places, a sequence of two, one number.
LAYOUT = RowLayout(
    single=("user", "item"),
    bags={"tags": (2, 5)},
    sequences={"history": (5, 7)},
    numbers=("price",),
    bases={"user": 1, "item": 5, "tags": 9, "history": 5},
    sizes={"user": 4, "item": 4, "tags": 5, "history": 4},
    n_codes=14,
)
ROWS = Encoded(np.array([[3, 7, 11, 12, 0, 7, 8], [4, 8, 0, 0, 0, 0, 0]], np.int32), np.array([[2.0], [-0.5]], np.float32))


@pytest.fixture
def table() -> FieldVectors:
    return FieldVectors(LAYOUT, 4, np.random.default_rng(0), scale=1.0)


def test_each_field_has_its_vector_in_the_order_of_names(table: FieldVectors) -> None:
    assert table.names == ("user", "item", "tags", "history", "price")
    found, rows = table(ROWS).fields, table.table.detach()
    assert found.shape == (2, 5, 4)
    torch.testing.assert_close(found[0, 0], rows[3])
    torch.testing.assert_close(found[0, 1], rows[7])
    torch.testing.assert_close(found[0, 2], (rows[11] + rows[12]) / 2)
    torch.testing.assert_close(found[0, 3], (rows[7] + rows[8]) / 2)
    torch.testing.assert_close(found[0, 4], 2 * table.numbers.detach()[0])
    torch.testing.assert_close(found[1, 4], -0.5 * table.numbers.detach()[0])
    torch.testing.assert_close(table(ROWS).flat, found.reshape(2, 20))


def test_an_empty_bag_is_zero_though_padding_has_learnt(table: FieldVectors) -> None:
    with torch.no_grad():
        table.table[0] = 5.0
    found = table(ROWS).fields
    assert (found[1, 2:4] == 0).all()
    torch.testing.assert_close(found[0, 2], (table.table[11] + table.table[12]) / 2)


def test_sequences_are_kept_whole_where_asked() -> None:
    table = FieldVectors(LAYOUT, 4, np.random.default_rng(0), scale=1.0, whole=("history", "tags"))
    assert table.names == ("user", "item", "tags", "price"), "only sequences can be whole"
    found = table(ROWS)
    vectors, mask = found.sequences["history"]
    assert mask.tolist() == [[True, True], [False, False]]
    torch.testing.assert_close(vectors[0], table.table.detach()[[7, 8]])
    assert (vectors[1] == 0).all()
    assert found.fields.shape == (2, 4, 4)


def test_the_size_is_that_of_what_was_looked_up(table: FieldVectors) -> None:
    rows = table.table.detach()
    used = [3, 7, 11, 12, 7, 8, 4, 8]
    torch.testing.assert_close(table(ROWS).size, rows[used].square().sum() / 2)
    assert (rows[0] == 0).all()


def test_gradients_equal_plain_torch(table: FieldVectors) -> None:
    weight = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    (table(ROWS).fields * weight).sum().backward()
    plain = table.table.detach().clone().requires_grad_()
    number = table.numbers.detach().clone().requires_grad_()
    codes = torch.from_numpy(ROWS.codes).long()
    single = torch.nn.functional.embedding(codes[:, :2], plain)
    bags = []
    for at in ((2, 5), (5, 7)):
        own = codes[:, slice(*at)]
        mask = (own > 0).float()[:, :, None]
        bags.append((torch.nn.functional.embedding(own, plain) * mask).sum(1) / mask.sum(1).clamp(min=1))
    fields = torch.cat([single, torch.stack(bags, 1), torch.from_numpy(ROWS.numbers)[:, :, None] * number], 1)
    (fields * weight).sum().backward()
    torch.testing.assert_close(table.table.grad, plain.grad)
    torch.testing.assert_close(table.numbers.grad, number.grad)


def test_products_of_pairs_equal_the_double_loop() -> None:
    fields = torch.randn(7, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(pair_products(fields), pair_products_reference(fields))
    by_hand = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]])
    torch.testing.assert_close(pair_products(by_hand), torch.tensor([[1 * 3 + 1 * 0.5 + 3 * 0.5, -2.0 + 8.0 - 4.0]]))
    assert (pair_products_reference(fields[:, :1]) == 0).all()


def test_a_table_of_numbers_alone_is_served() -> None:
    layout = RowLayout((), {}, {}, ("a", "b"), {}, {}, 1)
    table = FieldVectors(layout, 3, np.random.default_rng(0))
    found = table(Encoded(np.zeros((4, 0), np.int32), np.ones((4, 2), np.float32)))
    assert found.fields.shape == (4, 2, 3)
    torch.testing.assert_close(found.fields[0], table.numbers.detach())


def test_a_sequence_that_all_rows_share_is_looked_up_once() -> None:
    table = FieldVectors(LAYOUT, 4, np.random.default_rng(0), scale=1.0, whole=("history",))
    codes = np.repeat(ROWS.codes[:1], 3, axis=0)
    codes[:, 1], codes[2, 2:5] = [5, 6, 7], [9, 0, 0]
    rows = Encoded(codes, np.ones((3, 1), np.float32))
    learning = table(rows)
    with torch.no_grad():
        answering = table(rows)
    vectors, mask = answering.sequences["history"]
    assert vectors.stride(0) == 0 and mask.stride(0) == 0 and learning.sequences["history"][0].stride(0) > 0
    torch.testing.assert_close(answering.fields, learning.fields)
    torch.testing.assert_close(answering.size, learning.size)
    for found, plain in zip(answering.sequences["history"], learning.sequences["history"], strict=True):
        torch.testing.assert_close(found, plain)
    with torch.no_grad():
        assert table(ROWS).sequences["history"][0].stride(0) > 0, "these rows have different histories"
