"""The contract of the store, the same on SQLite and PostgreSQL: opening, users, items, models, experiments, keys, settings."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from palate.errors import ConfigError, DataError
from palate.serve.errors import BusyError, ConflictError, ErasedMeanwhile, NotFound, SchemaError, Unavailable
from palate.serve.store import Event, Exposure, ItemRow, ModelRow, Shown, Slate, Store, UserRow, schema
from palate.serve.store.tables import metadata


class TestOpen:
    def test_a_new_store_is_empty_and_keeps_its_identity(self, store, store_url):
        assert not any(number for name, number in store.sizes().items() if name != "meta")
        assert store.pulse().events == store.pulse().items == store.position() == 0
        with Store.open(store_url) as again:
            assert again.identity == store.identity

    def test_check_writes_and_reads(self, store):
        assert 0 < store.check() < 5
        assert store.settings() == {}

    def test_a_newer_schema_is_refused(self, store, store_url):
        with store.database.write() as connection:
            connection.execute(text("UPDATE palate_version SET version_num = '9999'"))
        with pytest.raises(SchemaError, match="newer Palate"):
            Store.open(store_url)

    def test_the_version_is_that_of_the_last_migration(self, store):
        from palate.serve.store.upgrade import scripts

        assert scripts().get_current_head() == schema.HEAD
        with store.database.read() as connection:
            assert schema.version(connection) == schema.HEAD

    def test_migrations_make_exactly_the_tables(self, store):
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        with store.database.read() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
            assert compare_metadata(context, metadata) == []

    def test_a_store_of_the_first_schema_is_brought_up_to_date(self, store, store_url):
        from palate.serve.store.upgrade import upgrade

        with store.database.write() as connection:
            for name in [*(table.name for table in reversed(metadata.sorted_tables)), schema.VERSION_TABLE]:
                connection.execute(text(f"DROP TABLE {name}"))
            upgrade(connection, "0001")
            connection.execute(text("INSERT INTO meta VALUES ('store.identity', 'old'), ('store.erasure_key', 'ab')"))
            connection.execute(text("INSERT INTO slates (id, time, policy, stochastic) VALUES ('s', 1.0, 'p', false)"))
            connection.execute(text("INSERT INTO impressions VALUES ('s', 1, 'a', 0.5, 'als')"))
        with Store.open(store_url) as again:
            assert again.identity == "old"
            assert again.slate("s").items == (Shown("a", 1, 0.5, "als"),)
            again.add_slate(Slate("t", (Shown("b", 1, team="treatment"),), stochastic=False))
            assert again.slate("t").items[0].team == "treatment"
            with again.database.read() as connection:
                assert schema.version(connection) == schema.HEAD

    def test_processes_that_open_at_once_make_one_store(self, store_url):
        program = "import sys; from palate.serve.store import Store; print(Store.open(sys.argv[1]).identity)"
        running = [
            subprocess.Popen([sys.executable, "-c", program, store_url], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        said = [process.communicate(timeout=60)[0] for process in running]
        assert [process.returncode for process in running] == [0, 0, 0]
        assert len(set(said)) == 1

    def test_threads_that_open_at_once_make_one_store(self, store_url):
        names = []
        threads = [threading.Thread(target=lambda: names.append(Store.open(store_url).identity)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(names) == 4 and len(set(names)) == 1

    @pytest.mark.parametrize("url", ["", "mysql://a/b", "sqlite://", "sqlite:///:memory:"])
    def test_other_urls_are_refused(self, url):
        with pytest.raises(ConfigError):
            Store.open(url)

    def test_the_password_is_not_shown(self):
        with pytest.raises(Unavailable) as told:
            Store.open("postgresql://somebody:geheim@127.0.0.1:1/none", wait=2)
        assert "geheim" not in str(told.value) and told.value.retry_after > 0


class TestUsersAndItems:
    def test_users_are_made_and_replaced(self, store):
        assert store.user("ann") is None
        store.put_users([UserRow("ann", {"age": 30}), UserRow("Ann")])
        made = store.user("ann")
        assert made.attributes == {"age": 30} and store.user("Ann").attributes == {}
        store.put_users([UserRow("ann", {"age": 31})])
        assert store.user("ann").attributes == {"age": 31}
        assert store.user("ann").created == made.created < store.user("ann").updated

    def test_a_deleted_user_is_gone_but_for_what_was_done(self, store):
        store.put_users([UserRow("ann", {"age": 30}), UserRow("bob", {"age": 40})])
        store.add_events([Event("ann", "i")])
        assert store.delete_user("ann") and not store.delete_user("ann") and not store.delete_user("nobody")
        assert store.user("ann") is None and [row.id for row in store.users()] == ["bob"]
        assert len(store.events_of("ann")) == 1
        held = store.export_user("ann")["user"]
        assert held["attributes"] == {} and held["deleted"] > 0
        store.add_events([Event("ann", "j")])
        assert store.user("ann") is None
        store.put_users([UserRow("ann", {"age": 31})])
        assert store.user("ann").attributes == {"age": 31} and store.user("bob").attributes == {"age": 40}

    def test_data_sets_keep_the_events_of_deleted_users(self, store):
        from palate.serve.store.exchange import dataset

        store.put_users([UserRow("ann", {"age": 30}), UserRow("bob", {"age": 40})])
        store.add_events([Event("ann", "i", time=1.0), Event("bob", "i", time=2.0)])
        store.delete_user("ann")
        found = dataset(store)
        assert found.users.ids.raw.to_pylist() == ["ann", "bob"] and sorted(found.interactions.user.tolist()) == [0, 1]

    def test_pages_follow_code_points(self, store):
        ids = ["b", "a", "Z", "ä", "_", "10", "9", "\U0001f600", "Ā"]
        store.put_users([UserRow(i) for i in ids])
        store.put_items([ItemRow(i) for i in ids])
        for page in (store.users, store.items):
            seen, after = [], None
            while rows := page(after=after, limit=2):
                seen += [row.id for row in rows]
                after = seen[-1]
            assert seen == sorted(ids)

    def test_items_come_back_as_they_were(self, store):
        row = ItemRow(
            "i", "Tö\n", "x" * 5_000, ("a, b", "c"), 0.1, False, {"deep": [1, {"x": None}], "ü": "\x00"}, "p.jpg", 5.5
        )
        store.put_items([row])
        found = store.item("i")
        assert {n: getattr(found, n) for n in row.__slots__ if n not in ("updated", "revision")} == {
            n: getattr(row, n) for n in row.__slots__ if n not in ("updated", "revision")
        }

    def test_every_change_has_the_next_revision(self, store):
        store.put_items([ItemRow("a"), ItemRow("b")])
        store.add_events([Event("u", "c")])
        assert [(r, i.id) for r, i in store.items_after(0)] == [(1, "a"), (2, "b"), (3, "c")]
        store.put_items([ItemRow("a", title="new")])
        assert store.delete_items(["b", "nobody"]) == 1
        changed = store.items_after(3)
        assert [(r, i.id, i.title, i.deleted) for r, i in changed] == [(4, "a", "new", False), (5, "b", "", True)]
        assert store.pulse().items == 5 and store.items_after(5) == []

    def test_a_deleted_item_is_gone_but_histories_read_on(self, store):
        store.put_items([ItemRow("a", created=7.0)])
        store.add_events([Event("u", "a")])
        store.delete_items(["a"])
        store.add_events([Event("u", "a", "buy")])
        assert store.item("a") is None and store.items() == [] and store.delete_items(["a"]) == 0
        assert [e.item for e in store.events_of("u")] == ["a", "a"]
        store.put_items([ItemRow("a")])
        assert store.item("a").created == 7.0

    def test_a_bad_item_stops_the_batch_and_is_named(self, store):
        with pytest.raises(DataError) as told:
            store.put_items([ItemRow("a"), ItemRow("b", price=float("nan"))])
        assert told.value.where == "items[1].price"
        assert store.items() == []

    def test_one_id_twice_in_a_batch_is_the_last(self, store):
        store.put_items([ItemRow("a", "one"), ItemRow("a", "two")])
        assert store.item("a").title == "two" and len(store.items()) == 1


class TestModels:
    def test_one_is_active_and_the_one_before_comes_back(self, store):
        for name in "abc":
            store.add_model(ModelRow(name, "ease", f"/models/{name}", {"ndcg@10": 0.5}))
        assert store.active_model() is None and store.pulse().active is None
        for name in "abca":
            assert store.activate(name).state == "active"
        assert [m.state for m in sorted(store.models(), key=lambda m: m.version)] == ["active", "retired", "retired"]
        assert [store.roll_back().version for _ in range(3)] == ["c", "b", "a"]
        with pytest.raises(ConflictError):
            store.roll_back()
        assert store.active_model().version == store.pulse().active == "a"
        assert store.models()[0].version == "c" and store.model("a").metrics == {"ndcg@10": 0.5}

    def test_activating_the_active_one_changes_nothing(self, store):
        store.add_model(ModelRow("a", "ease", "/a"))
        store.activate("a"), store.activate("a")
        with pytest.raises(ConflictError):
            store.roll_back()

    def test_versions_are_taken_once(self, store):
        first = store.add_model(ModelRow("a", "ease", "/a"))
        assert store.add_model(ModelRow("a", "ease", "/a")) == first
        with pytest.raises(ConflictError):
            store.add_model(ModelRow("a", "ease", "/b"))
        with pytest.raises(NotFound):
            store.activate("b")

    def test_none_is_entered_after_an_erasure_that_it_may_not_know(self, store):
        store.add_events([Event("u", "i")])
        before = store.pulse().erasures
        store.erase_user("u", scrub=False)
        with pytest.raises(ErasedMeanwhile):
            store.add_model(ModelRow("a", "ease", "/a"), activate=True, unless_after=before)
        assert store.model("a") is None and store.active_model() is None
        now = store.pulse().erasures
        assert now > before
        assert store.add_model(ModelRow("a", "ease", "/a"), activate=True, unless_after=now).state == "active"
        assert store.model_before() is None

    def test_activations_at_once_leave_one_active(self, store_url):
        with Store.open(store_url) as store:
            for at in range(8):
                store.add_model(ModelRow(f"m{at}", "ease", "/"))
            threads = [threading.Thread(target=store.activate, args=(f"m{at}",)) for at in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [m.state for m in store.models()].count("active") == 1


class TestExperiments:
    def test_states_go_forward_only(self, store):
        made = store.add_experiment("e", {"arms": ["a", "b"]})
        assert made.state == "draft" and made.spec == {"arms": ["a", "b"]}
        assert store.change_experiment("e", {"arms": ["a", "c"]}).spec == {"arms": ["a", "c"]}
        running = store.move_experiment("e", "running")
        assert running.started is not None and store.move_experiment("e", "running") == running
        with pytest.raises(ConflictError):
            store.change_experiment("e", {})
        assert store.move_experiment("e", "stopped").stopped > running.started
        for state in ("running", "draft"):
            with pytest.raises(ConflictError):
                store.move_experiment("e", state)
        with pytest.raises(ConflictError):
            store.add_experiment("e", {})
        with pytest.raises(NotFound):
            store.move_experiment("f", "running")
        assert [e.name for e in store.experiments("stopped")] == ["e"] and store.experiments("running") == []

    def test_the_first_exposure_counts(self, store):
        store.add_experiment("e", {})
        assert store.add_exposures([Exposure("e", "u", "a", 5.0), Exposure("e", "v", "b", 6.0)]).stored == 2
        assert store.add_exposures([Exposure("e", "u", "a", 9.0)]).repeated == 1
        assert store.exposures("e").to_pydict() == {"unit": ["u", "v"], "variant": ["a", "b"], "time": [5.0, 6.0]}
        with pytest.raises(ConflictError):
            store.add_exposures([Exposure("e", "w", "a"), Exposure("e", "u", "b")])
        with pytest.raises(NotFound):
            store.add_exposures([Exposure("none", "u", "b")])
        assert store.exposures("e", after="u")["unit"].to_pylist() == ["v"]


class TestKeysAndSettings:
    def test_keys_are_good_until_revoked(self, store):
        store.add_key("ann", "0" * 64, {"write", "read"})
        assert store.key("ann").scopes == ("read", "write") and store.key("ann").hash == "0" * 64
        with pytest.raises(ConflictError):
            store.add_key("ann", "1" * 64, {"read"})
        store.revoke_key("ann")
        assert store.key("ann") is None and store.keys() == []
        with pytest.raises(NotFound):
            store.revoke_key("ann")
        store.add_key("ann", "1" * 64, {"read"})
        assert [good.hash for good in Store.keys(store)] == ["1" * 64]

    def test_names_that_no_key_has_are_no_keys(self, store):
        assert [store.key(name) for name in ("", "\x00", "x" * 300, "\ud800")] == [None] * 4

    def test_settings_are_json(self, store):
        store.set_setting("a", {"x": [1, None]})
        store.set_setting("b", 0)
        store.set_setting("b", False)
        assert store.settings() == {"a": {"x": [1, None]}, "b": False}
        store.set_setting("a", None)
        assert store.setting("a", "none") == "none" and store.setting("b") is False


class TestNastyIds:
    def test_bad_ones_are_refused(self, store):
        for bad in ("", "x" * 201, "a\x00b", "\ud800", 5, None, b"x"):
            for call in (
                lambda: store.put_users([UserRow(bad)]),  # noqa: B023
                lambda: store.put_items([ItemRow(bad)]),  # noqa: B023
                lambda: store.add_events([Event(bad, "i")]),  # noqa: B023
                lambda: store.events_of(bad),  # noqa: B023
                lambda: store.erase_user(bad),  # noqa: B023
            ):
                with pytest.raises(DataError):
                    call()

    @pytest.mark.parametrize("step", [".", ".."])
    def test_what_no_address_can_name_does_not_come_in(self, store, step):
        for call in (
            lambda: store.put_users([UserRow(step)]),
            lambda: store.put_items([ItemRow(step)]),
            lambda: store.add_events([Event(step, "i")]),
            lambda: store.add_events([Event("u", step)]),
            lambda: store.add_model(ModelRow(step, "ease", "/")),
            lambda: store.add_experiment(step, {}),
        ):
            with pytest.raises(DataError, match="no web address can name"):
                call()
        assert store.user(step) is None and store.item(step) is None and not any(store.erase_user(step).counts.values())

    def test_odd_ones_are_kept_as_given(self, store):
        for odd in ("'; DROP TABLE events; --", "%s", ":id", "<b>", "../../etc/passwd", "\t\n\\N", " ", "é" * 200):
            store.put_items([ItemRow(odd, odd, odd, (odd,), 1.0, True, {odd: odd}, odd)])
            store.add_events([Event(odd, odd, odd, 1.0, 5.0, odd, {odd: odd}, odd)])
            event = store.events_of(odd)[0]
            assert (event.user, event.item, event.type, event.session, event.id, event.context) == (odd,) * 5 + ({odd: odd},)
            found = store.item(odd)
            assert (found.title, found.text, found.categories, found.attributes) == (odd, odd, (odd,), {odd: odd})


class TestTrouble:
    def test_a_lock_gives_unavailable_and_passes(self, store, kind):
        with _second(store, 0.3) as other:
            with store.database.write(), pytest.raises(Unavailable) as told:
                other.add_events([Event("u", "i")])
            assert told.value.retry_after > 0 and "INSERT" not in str(told.value)
            assert other.add_events([Event("u", "i")]).stored == 1

    def test_a_thread_that_waits_too_long_is_told(self, store):
        with _second(store, 0.2) as other:
            caught = []

            def write() -> None:
                try:
                    other.put_users([UserRow("u")])
                except BusyError as error:
                    caught.append(error)

            with other.database.write():
                thread = threading.Thread(target=write)
                thread.start()
                thread.join()
            assert len(caught) == 1

    def test_no_sql_and_no_values_in_errors(self, store):
        with pytest.raises(Exception) as told, store.database.read() as connection:
            connection.execute(text("SELECT geheim FROM nowhere WHERE x = :x"), {"x": "value-7"})
        assert "geheim" not in repr(told.value) + str(told.value) and "value-7" not in str(told.value)
        assert told.value.__suppress_context__


def _second(store: Store, wait: float) -> Store:
    """Open the store of another store once more."""
    return Store.open(store.database.engine.url.render_as_string(hide_password=False), wait=wait)
