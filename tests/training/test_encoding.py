"""Pieces of fixed shape: every history once, cut to its end, whatever the company."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.histories import Histories
from palate.training.encoding import encode_last, pieces, widths

rows = st.lists(st.lists(st.integers(0, 50), max_size=30), max_size=12)


@given(rows, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_pieces_hold_each_history_once_cut_to_its_end(data, max_len):
    histories = Histories.from_rows(data)
    found = {}
    for piece in pieces(histories, max_len, 64):
        assert piece.items.shape == (max(1, 64 // piece.items.shape[1]), piece.items.shape[1])
        for row, line, length in zip(piece.rows.tolist(), piece.items, piece.lengths, strict=False):
            assert row not in found
            found[row] = line[:length].tolist()
            assert not line[length:].any()
    assert found == {r: row[-max_len:] for r, row in enumerate(data) if row}


def test_widths_end_at_max_len():
    assert widths(50) == [8, 16, 32, 50]
    assert widths(3) == [3]
    assert widths(64) == [8, 16, 32, 64]


def test_encode_last_puts_states_back_in_order():
    histories = Histories.from_rows([[4, 7], [], [9] * 20, [2]])
    out = encode_last(histories, 10, 1, lambda p: p.items[np.arange(len(p.items)), p.lengths - 1][:, None].astype(np.float32))
    assert out[:, 0].tolist() == [7, 0, 9, 2]


@pytest.mark.parametrize("length", [1, 8, 9, 33])
def test_the_shape_of_a_piece_depends_on_the_history_alone(length):
    """So a matrix product over it has the same bits in any company."""
    own = list(range(length))
    shapes = set()
    for company in ([], [[1]] * 3, [[2] * 40] * 9, [own] * 50):
        for piece in pieces(Histories.from_rows([own, *company]), 50, 64):
            if 0 in piece.rows:
                shapes.add(piece.items.shape)
                assert piece.lengths[piece.rows.tolist().index(0)] == length
    assert len(shapes) == 1


def test_unused_rows_have_a_length_that_can_be_read():
    (piece,) = pieces(Histories.from_rows([[5, 6]]), 50, 64)
    assert piece.rows.tolist() == [0]
    assert piece.lengths.tolist() == [2, *[1] * 7]


def test_nobody_needs_no_piece():
    assert list(pieces(Histories.empty(3), 50)) == []
    assert encode_last(Histories.empty(3), 50, 4, lambda piece: 1 / 0).tolist() == [[0] * 4] * 3
