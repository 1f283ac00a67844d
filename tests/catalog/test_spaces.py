"""Search spaces name real settings with values that those settings accept."""

import pytest

from palate.catalog.registry import systems
from palate.catalog.spaces import SPACES, Range, space_of


@pytest.mark.parametrize("name", sorted(SPACES))
def test_names_and_values_are_real(name):
    system = systems()[name]
    for library in system.libraries:
        pytest.importorskip(library)
    settings = system.load().Settings
    for setting, values in SPACES[name].items():
        assert setting in settings.model_fields, setting
        for value in values.choices or (values.low, values.high):
            read = getattr(settings.parse({setting: value}, system=name), setting)
            assert read == value


def test_every_baseline_that_has_settings_can_be_tuned():
    ours = [s for s in systems().values() if s.status == "works" and s.origin == "palate" and s.verb == "recommend"]
    without = {s.name for s in ours if s.name not in SPACES and s.load().Settings.model_fields}
    assert not without, "add their settings to catalog/spaces.py, or tuning gives them one trial"


@pytest.mark.parametrize("system", [s for s in systems().values() if s.verb == "explore" and s.status == "works"], ids=str)
def test_every_policy_can_be_tuned_and_its_defaults_lie_inside(system):
    for library in system.libraries:
        pytest.importorskip(library)
    defaults = system.load()().config.model_dump()
    assert all(values.holds(defaults[name]) for name, values in space_of(system.name).items())
    assert space_of(system.name)


def test_a_range_knows_what_it_holds():
    assert Range(1, 5).holds(3)
    assert not Range(1, 5).holds(6)
    assert not Range(1, 5).holds(None)
    assert not Range(1, 5).holds(True)
    assert Range(choices=("a", 2)).holds("a")
    assert Range(1, 5).whole
    assert not Range(1.0, 5).whole


def test_a_space_is_a_copy_and_may_be_empty():
    space_of("ease")["reg"] = Range(1, 2)
    assert space_of("ease")["reg"].log
    assert space_of("no such system") == {}
