"""Row part: the same values under a narrower range of codes."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.data.row_part import RowPart
from palate.errors import ConfigError

TABLE = pa.table(
    {
        "a": ["x", "y", None, "x"],
        "n": [1.0, 2.0, 3.0, 4.0],
        "b": [["p"], ["q", "r"], [], ["p", "q", "r"]],
        "m": [0.0, 1.0, 0.0, 1.0],
        "c": ["u", "u", "v", "w"],
        "h": [["x"], [], ["y", "x"], ["z"]],
    }
)
FIELDS = (
    *(RowField(name, "category") for name in "ac"),
    RowField("b", "list", max_length=3),
    *(RowField(name, "number", scale="none") for name in "nm"),
    RowField("h", "sequence", max_length=2, share="a"),
)
ENCODER = RowEncoder.learn(FIELDS, lambda: [TABLE])
ROWS = ENCODER.encode(TABLE)


def local(layout, codes, name, columns):
    """Codes counted from the field's base; padding is -1."""
    found = codes[:, columns]
    return np.where(found > 0, found - layout.bases[name], -1)


@pytest.mark.parametrize("names", [("c",), ("b", "m"), ("h", "c"), ("a", "h", "n"), tuple("acbnmh")])
def test_values_stay_and_codes_are_dense(names):
    part, whole = RowPart.of(ENCODER.layout, names), ENCODER.layout
    rows = part.take(ROWS)
    assert set(part.layout.names) == set(names)
    assert rows.codes.shape == (4, part.layout.width)
    for name in names:
        if name in whole.numbers:
            own, other = part.layout.numbers.index(name), whole.numbers.index(name)
            np.testing.assert_array_equal(rows.numbers[:, own], ROWS.numbers[:, other])
            continue
        spans = [{**x.bags, **x.sequences}.get(name) for x in (part.layout, whole)]
        if spans[0] is None:
            spans = [(at, at + 1) for at in (x.single.index(name) for x in (part.layout, whole))]
        np.testing.assert_array_equal(
            local(part.layout, rows.codes, name, slice(*spans[0])), local(whole, ROWS.codes, name, slice(*spans[1]))
        )
    sizes = {part.layout.bases[name]: part.layout.sizes[name] for name in names if name in part.layout.bases}
    assert part.layout.n_codes == 1 + sum(sizes.values())
    assert rows.codes.size == 0 or rows.codes.max() < part.layout.n_codes


def test_no_fields_and_unknown_ones():
    assert RowPart.of(ENCODER.layout, ()).take(ROWS).codes.shape == (4, 0)
    with pytest.raises(ConfigError, match="no such field"):
        RowPart.of(ENCODER.layout, ("z",))
