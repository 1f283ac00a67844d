"""RecBole 1.2.1 with a knowledge graph (its KGAT is built on dgl).

Run as released but for the lines here: dgl 1.1.3 needs two old names back, under which RecBole 1.2.1 calls it.
"""

import sys
from pathlib import Path

import dgl

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve
from recbole_worker import epoch, evaluate, load

_subgraph = dgl.edge_subgraph
dgl.edge_subgraph = lambda g, i, preserve_nodes=False, **k: _subgraph(g, i, relabel_nodes=not preserve_nodes, **k)
dgl.DGLGraph.adjacency_matrix = lambda g, transpose=False, ctx=None, scipy_fmt=None, **k: g.adj_external(
    transpose=transpose, scipy_fmt=scipy_fmt
)

COLUMNS = {
    "inter": ["user_id", "item_id", "timestamp"],
    "kg": ["head_id", "relation_id", "tail_id"],
    "link": ["item_id", "entity_id"],
}


def load_kg(settings, **rest):
    """As ``load``, with ``name.kg`` and ``name.link`` beside the parts."""
    return load(settings={"load_col": COLUMNS, **settings}, **rest)


if __name__ == "__main__":
    serve({"load": load_kg, "epoch": epoch, "evaluate": evaluate})
