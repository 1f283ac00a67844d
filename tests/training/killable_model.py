"""A fit of a real model that a test kills: ``killable_model.py SYSTEM CHECKPOINT OUT SECONDS_AN_EPOCH``; OUT is its bundle."""

import sys
import time

from palate.catalog.registry import create
from palate.data.protocols import split
from palate.simulate.world import World, WorldConfig

system, folder, out, slow = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
parts = split(World(WorldConfig(users=60, items=40, events=900, seed=1)).dataset(), "leave_one_out")
create(system, epochs=8, dim=8, patience=0).fit(
    parts.train,
    parts.held_out("valid"),
    seed=3,
    checkpoint=folder,
    callbacks=[lambda event: time.sleep(slow)],
).save(out)
