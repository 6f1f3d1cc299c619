"""What every storage keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from welltuned.errors import UnknownStudy
from welltuned.storage import Storage, StudyRow
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

SPACE = {"parameters": {"x": {"type": "float", "low": 0.0, "high": 1.0}}}
LEASE = 600.0
NO_STUDY = 987_654
#: what needs a study: called with its number and a token of its first trial
CALLS: dict[str, Callable[[Storage, int, int], Any]] = {
    "row": lambda storage, study, _: storage.row(study),
    "update": lambda storage, study, _: storage.update(study, stop_reason="x", space=SPACE),
    "delete": lambda storage, study, _: storage.delete(study),
    "read": lambda storage, study, _: storage.read(study),
    "glance": lambda storage, study, _: storage.read(study, None),
    "running": lambda storage, study, _: storage.running(study),
    "add": lambda storage, study, _: storage.add(study, [finished()]),
    "claim": lambda storage, study, _: storage.claim(study, "me", LEASE),
    "assign": lambda storage, study, token: storage.assign(study, 0, token, {}, "{}", 1),
    "report": lambda storage, study, token: storage.report(study, 0, token, Report(1, {"value": 1.0})),
    "finish": lambda storage, study, token: storage.finish(study, 0, token, Outcome(State.COMPLETE)),
    "renew": lambda storage, study, token: storage.renew(study, [(0, token)], LEASE),
    "release": lambda storage, study, token: storage.release(study, 0, token),
    "drop": lambda storage, study, token: storage.release(study, 0, token, drop=True),
}


class StorageContract:
    """Prove a storage: names, budgets, leases, fencing tokens, unique keys, revisions.

    Provide the fixture ``storage``: an empty storage, closed afterwards.

    Examples
    --------
    >>> from welltuned.storage import SQLiteStorage
    >>> class TestSQLite(StorageContract):
    ...     @pytest.fixture
    ...     def storage(self, tmp_path):
    ...         storage = SQLiteStorage(tmp_path / "study.db")
    ...         yield storage
    ...         storage.close()
    """

    @pytest.fixture
    def storage(self) -> Storage:
        """Return the storage under test, empty."""
        raise NotImplementedError("provide the fixture 'storage'")

    @pytest.fixture
    def study(self, storage: Storage) -> int:
        """Return the id of a new study."""
        return storage.open(study_row()).id

    def test_is_a_storage(self, storage: Storage) -> None:
        """It satisfies the protocol."""
        assert isinstance(storage, Storage)

    # studies

    def test_open_creates(self, storage: Storage) -> None:
        """A new study has what was given, an id of its own and the time."""
        row = study_row(
            directions={"loss": "minimize", "acc": "maximize"},
            seed=2**100,
            attributes={"a": [1, None]},
            spaces=(SPACE,),
        )
        began = time.time()
        found = storage.open(row)
        assert (found.name, found.directions, found.seed) == (row.name, row.directions, row.seed)
        assert list(found.directions) == ["loss", "acc"]
        assert (found.sampler, found.attributes, tuple(found.spaces)) == (row.sampler, row.attributes, row.spaces)
        assert found.stop_reason is None
        assert began - 1 <= found.created <= time.time() + 1

    def test_open_finds_by_name(self, storage: Storage) -> None:
        """An existing study stays as it is, whatever is given."""
        first = storage.open(study_row(seed=1))
        assert storage.open(study_row(seed=2, directions={"loss": "maximize"}, sampler={"name": "grid"})) == first
        assert storage.open(study_row(id=NO_STUDY)) == first

    def test_studies_are_listed_and_apart(self, storage: Storage) -> None:
        """Studies come oldest first; trials of one are not those of another."""
        ids = [storage.open(study_row(name)).id for name in ("b", "a", "ü — 研究")]
        storage.claim(ids[0], "me", LEASE, 3)
        assert [row.name for row in storage.studies()] == ["b", "a", "ü — 研究"]
        assert [row.id for row in storage.studies()] == ids
        assert len(set(ids)) == 3
        assert [len(storage.read(i).trials) for i in ids] == [3, 0, 0]
        assert [t.number for t in storage.claim(ids[1], "me", LEASE)] == [0]

    def test_an_empty_storage_has_no_studies(self, storage: Storage) -> None:
        """There is nothing at first."""
        assert storage.studies() == []

    def test_update_space(self, storage: Storage, study: int) -> None:
        """Versions of the space are appended, and what others read says how many there are."""
        other = {"parameters": {"x": {"type": "int", "low": 1, "high": 9}}}
        assert storage.update(study, space=SPACE).spaces == (SPACE,)
        assert storage.update(study, space=other).spaces == (SPACE, other)
        assert storage.open(study_row()).spaces == (SPACE, other)
        assert storage.read(study).n_spaces == 2
        assert storage.claim(study, "me", LEASE)[0].space_version == 2

    def test_row(self, storage: Storage, study: int) -> None:
        """What is stored of one study is read as it is now, and reading it is no news to anybody."""
        other = storage.open(study_row("other")).id
        stored = storage.update(study, space=SPACE, stop_reason="enough", attributes={"a": 1})
        before = storage.read(study).revision
        assert storage.row(study) == stored == storage.open(study_row())
        assert storage.row(other).name == "other"
        assert storage.read(study).revision == before
        with storage.together(study):
            storage.update(study, attributes={"a": 2})
            assert storage.row(study).attributes["a"] == 2

    def test_update_attributes(self, storage: Storage, study: int) -> None:
        """Attributes that are named change as a whole; the others stay."""
        storage.update(study, attributes={"scheduler": {"name": "asha", "factor": 4, "last": None}, "n": 1})
        changed = {"scheduler": {"name": "median", "warmup": 1}}
        assert storage.update(study, attributes=changed).attributes == {**changed, "n": 1}
        assert storage.open(study_row(attributes={"n": 2})).attributes == {**changed, "n": 1}
        assert storage.studies()[0].attributes == {**changed, "n": 1}

    def test_update_stop(self, storage: Storage, study: int) -> None:
        """A reason to stop is set, kept by other updates, replaced and cleared."""
        assert storage.update(study, stop_reason="target: 1 reached").stop_reason == "target: 1 reached"
        assert storage.update(study, space=SPACE).stop_reason == "target: 1 reached"
        assert storage.read(study).stop_reason == "target: 1 reached"
        assert storage.update(study, stop_reason="patience").stop_reason == "patience"
        assert storage.update(study, clear_stop=True).stop_reason is None
        assert storage.open(study_row()).stop_reason is None

    @pytest.mark.parametrize("call", CALLS)
    def test_unknown_study(self, storage: Storage, study: int, call: str) -> None:
        """A study that does not exist is an UnknownStudy, by its number."""
        with pytest.raises(UnknownStudy, match=str(NO_STUDY)):
            CALLS[call](storage, NO_STUDY, 1)
        assert storage.read(study).trials == ()

    # deleting

    def test_delete(self, storage: Storage) -> None:
        """A study goes with all that belongs to it, and the others stay as they are."""
        ids = [storage.open(study_row(name, spaces=(SPACE,))).id for name in ("one", "two", "three")]
        for study in ids:
            token = storage.claim(study, "me", LEASE)[0].token
            storage.report(study, 0, token, Report(1, {"value": 1.0}))
            storage.add(study, [replace(finished(), reports=(Report(2, {"value": 2.0}),)), waiting(0.1)])
        before = [storage.read(i) for i in ids]
        assert storage.delete(ids[1]) == 3
        assert [(row.id, row.name) for row in storage.studies()] == [(ids[0], "one"), (ids[2], "three")]
        assert [storage.read(i) for i in (ids[0], ids[2])] == [before[0], before[2]]
        with pytest.raises(UnknownStudy):
            storage.delete(ids[1])

    def test_what_is_made_anew_is_new(self, storage: Storage) -> None:
        """Under the name of a deleted study another one begins, with nothing of it and under a number of its own."""
        row = study_row(spaces=(SPACE, SPACE), seed=1)
        first = storage.open(row)
        token = storage.claim(first.id, "me", LEASE)[0].token
        storage.report(first.id, 0, token, Report(1, {"value": 1.0}))
        storage.assign(first.id, 0, token, {"x": 0.5}, "0.5", 1)
        storage.delete(first.id)
        second = storage.open(study_row(seed=2))
        assert (second.name, second.seed, second.spaces, second.id == first.id) == (first.name, 2, (), False)
        assert (storage.read(second.id).trials, storage.running(second.id)) == ((), [])
        trial = storage.claim(second.id, "you", LEASE)[0]
        assert (trial.number, trial.reports) == (0, ())
        assert storage.assign(second.id, 0, trial.token, {"x": 0.5}, "0.5", 1)
        storage.delete(second.id)
        assert storage.open(study_row()).id not in (first.id, second.id)

    @pytest.mark.parametrize("call", CALLS)
    def test_who_works_on_a_deleted_study_is_told(self, storage: Storage, study: int, call: str) -> None:
        """The holder of a claim stores nothing any more, in the study of the same name neither."""
        token = storage.claim(study, "me", LEASE)[0].token
        storage.delete(study)
        other = storage.open(study_row()).id
        storage.claim(other, "you", LEASE)
        before = storage.read(other)
        with pytest.raises(UnknownStudy):
            CALLS[call](storage, study, token)
        assert storage.read(other) == before
        assert [row.id for row in storage.studies()] == [other]

    def test_who_waits_for_a_deleted_study_is_told(self, storage: Storage, study: int) -> None:
        """A reader does not wait for news of what is gone."""
        seen, began = storage.read(study).revision, time.monotonic()
        timer = threading.Timer(0.2, lambda: storage.delete(study))
        timer.start()
        with pytest.raises(UnknownStudy):
            storage.read(study, seen, wait=30.0)
        assert time.monotonic() - began < 25
        timer.join()

    def test_deleting_what_others_work_on(self, storage: Storage, study: int) -> None:
        """Threads that claim, report and finish meanwhile all end with an UnknownStudy, and bring nothing back."""
        errors: list[BaseException] = []
        began = threading.Barrier(4)

        def work() -> None:
            try:
                began.wait()
                while True:
                    for t in storage.claim(study, "me", LEASE, 2):
                        storage.report(study, t.number, t.token, Report(1, {"value": 1.0}))
                        storage.finish(study, t.number, t.token, complete(1.0))
                    storage.read(study, 1)
            except BaseException as error:  # noqa: BLE001 - looked at below
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        began.wait()
        while len(storage.read(study).trials) < 10:
            time.sleep(0.001)
        assert storage.delete(study) >= 10
        for thread in threads:
            thread.join()
        assert [type(error) for error in errors] == [UnknownStudy] * 3
        assert storage.studies() == []
        assert storage.read(storage.open(study_row()).id).trials == ()

    # claims

    def test_claim_makes_running_trials(self, storage: Storage, study: int) -> None:
        """New slots are numbered from 0, run, and hold a lease."""
        began = time.time()
        claimed = storage.claim(study, "me", LEASE, 3)
        assert [t.number for t in claimed] == [0, 1, 2]
        for trial in claimed:
            assert (trial.state, trial.params, trial.owner, trial.attempts) == (State.RUNNING, None, "me", 1)
            assert trial.origin is Origin.SAMPLER
            assert trial.token >= 1
            assert trial.lease_until is not None and began + LEASE - 1 <= trial.lease_until <= time.time() + LEASE + 1
            assert trial.started is not None and began - 1 <= trial.started <= time.time() + 1
        assert storage.read(study).trials == tuple(claimed)

    def test_running_tells_who_holds_what(self, storage: Storage, study: int) -> None:
        """Claims are listed with their tokens and owners, for as long as they are held."""
        (one, two) = storage.claim(study, "me", LEASE, 2)
        assert storage.running(study) == [(0, one.token, "me"), (1, two.token, "me")]
        storage.release(study, 0, one.token)
        again = storage.claim(study, "you", LEASE)[0]
        storage.finish(study, 1, two.token, complete(1.0))
        assert storage.running(study) == [(0, again.token, "you")]

    def test_together_is_one_change(self, storage: Storage, study: int) -> None:
        """What happens together is seen together, and counts as what it is."""
        token = storage.claim(study, "me", LEASE, budget=3)[0].token
        with storage.together(study):
            assert storage.finish(study, 0, token, complete(1.0))
            trial = storage.claim(study, "me", LEASE, budget=3)[0]
            assert storage.assign(study, trial.number, trial.token, {"x": 0.5}, "k", 1)
            assert not storage.finish(study, 0, token, complete(2.0))
            assert [t.state for t in storage.read(study).trials] == [State.COMPLETE, State.RUNNING]
        assert [t.params for t in storage.read(study).trials] == [None, {"x": 0.5}]
        assert len(storage.claim(study, "me", LEASE, 5, budget=3)) == 1
        with storage.together(study):
            pass
        assert len(storage.read(study).trials) == 3

    def test_what_is_read_amid_a_change_is_no_end(self, storage: Storage, study: int) -> None:
        """Whoever reads amid what happens together reads all of it after it, by the revision that was read."""
        first, second = storage.claim(study, "me", LEASE, 2)
        with storage.together(study):
            assert storage.finish(study, 0, first.token, complete(1.0))
            amid = storage.read(study)
            glance = storage.read(study, amid.revision)
            assert storage.finish(study, 1, second.token, complete(2.0))
        for revision in (amid.revision, glance.revision):
            changed = {t.number: t.state for t in storage.read(study, revision).trials}
            assert changed[1] is State.COMPLETE
        assert storage.read(study, storage.read(study).revision).trials == ()

    def test_reading_nothing(self, storage: Storage, study: int) -> None:
        """Without trials, what is read are the revision and the reason to stop."""
        storage.claim(study, "me", LEASE)
        storage.update(study, stop_reason="enough")
        glance = storage.read(study, None)
        assert (glance.trials, glance.dropped, glance.stop_reason) == ((), (), "enough")
        assert glance.revision == storage.read(study).revision

    def test_reading_waits_for_a_change(self, storage: Storage, study: int) -> None:
        """Whoever waits returns when something happens, or when the time is over."""
        seen = storage.read(study).revision
        began = time.monotonic()
        assert storage.read(study, seen, wait=0.2).trials == ()
        assert 0.15 <= time.monotonic() - began < 15
        timer = threading.Timer(0.2, lambda: storage.claim(study, "me", LEASE))
        timer.start()
        assert len(storage.read(study, seen, wait=30.0).trials) == 1
        assert time.monotonic() - began < 25
        timer.join()

    def test_waiting_trials_come_first(self, storage: Storage, study: int) -> None:
        """Waiting trials are claimed in the order of their numbers, before any new slot."""
        storage.add(study, [waiting(0.1), finished(0.2), waiting(0.3)])
        claimed = storage.claim(study, "me", LEASE, 3)
        assert [(t.number, t.params) for t in claimed] == [(0, {"x": 0.1}), (2, {"x": 0.3}), (3, None)]

    def test_released_trials_come_before_new_slots(self, storage: Storage, study: int) -> None:
        """A trial that was given back is next, and claims at once take as many as there are."""
        tokens = {t.number: t.token for t in storage.claim(study, "me", LEASE, 4)}
        for number in (3, 1):
            assert storage.release(study, number, tokens[number])
        assert [t.number for t in storage.claim(study, "you", LEASE, 2)] == [1, 3]
        assert [t.number for t in storage.claim(study, "you", LEASE)] == [4]

    def test_budget(self, storage: Storage, study: int) -> None:
        """New slots end with the budget, however many are asked for."""
        assert len(storage.claim(study, "me", LEASE, 3, budget=5)) == 3
        assert [t.number for t in storage.claim(study, "me", LEASE, 9, budget=5)] == [3, 4]
        assert storage.claim(study, "me", LEASE, 1, budget=5) == []
        assert [t.number for t in storage.claim(study, "me", LEASE, 9, budget=6)] == [5]

    def test_what_uses_budget(self, storage: Storage, study: int) -> None:
        """Enqueued trials use budget, and wait when it is used up; results from elsewhere use none."""
        storage.add(study, [finished(0.1), finished(0.2), waiting(0.3), waiting(0.4)])
        assert [t.number for t in storage.claim(study, "me", LEASE, 9, budget=1)] == [2]
        assert [t.number for t in storage.claim(study, "me", LEASE, 9, budget=3)] == [3, 4]

    def test_dropped_slots_use_no_budget(self, storage: Storage, study: int) -> None:
        """A slot that was given up can be claimed again."""
        token = storage.claim(study, "me", LEASE, 1, budget=1)[0].token
        assert storage.release(study, 0, token, drop=True)
        assert len(storage.claim(study, "me", LEASE, 5, budget=1)) == 1

    def test_running_trials_are_left_alone(self, storage: Storage, study: int) -> None:
        """While its lease lasts a trial has one owner."""
        storage.claim(study, "me", LEASE, 2)
        assert [t.number for t in storage.claim(study, "you", LEASE, 2)] == [2, 3]

    def test_leases_run_out(self, storage: Storage, study: int) -> None:
        """A claim that was not renewed is taken over with its parameters, a new token and one more attempt."""
        first = storage.claim(study, "me", 0.02)[0]
        assert storage.assign(study, 0, first.token, {"x": 0.5}, "k", 1)
        time.sleep(0.06)
        second = storage.claim(study, "you", LEASE)[0]
        assert (second.number, second.owner, second.params, second.attempts) == (0, "you", {"x": 0.5}, 2)
        assert second.token > first.token

    def test_renewed_leases_do_not_run_out(self, storage: Storage, study: int) -> None:
        """Renewing counts from now, also when the lease has just run out and nobody has taken the trial."""
        token = storage.claim(study, "me", 0.02)[0].token
        time.sleep(0.06)
        assert storage.renew(study, [(0, token)], LEASE) == []
        assert [t.number for t in storage.claim(study, "you", LEASE)] == [1]
        assert storage.finish(study, 0, token, complete(1.0))

    def test_renew_tells_what_is_lost(self, storage: Storage, study: int) -> None:
        """Finished, released, unknown and taken-over claims are lost; the others are renewed all the same."""
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 4)]
        storage.finish(study, 1, tokens[1], complete(1.0))
        storage.release(study, 2, tokens[2])
        assert sorted(storage.renew(study, [*enumerate(tokens), (77, 1)], LEASE)) == [1, 2, 77]
        storage.claim(study, "you", LEASE)
        assert storage.renew(study, [(2, tokens[2])], LEASE) == [2]

    # tokens

    @pytest.mark.parametrize("call", ["assign", "report", "finish", "release", "drop"])
    def test_stale_tokens_change_nothing(self, storage: Storage, study: int, call: str) -> None:
        """After a trial was taken over its former owner is answered False, and nothing changes."""
        old = storage.claim(study, "me", LEASE)[0].token
        storage.release(study, 0, old)
        new = storage.claim(study, "you", LEASE)[0].token
        assert storage.assign(study, 0, new, {"x": 0.5}, "k", 1)
        before = storage.read(study).trials
        assert not act(storage, study, call, 0, old)
        assert storage.read(study).trials == before
        assert storage.finish(study, 0, new, complete(1.0))

    @pytest.mark.parametrize("call", ["assign", "report", "finish", "release", "drop"])
    def test_waiting_trials_take_nothing(self, storage: Storage, study: int, call: str) -> None:
        """A token is of no use once its claim was given back."""
        token = storage.claim(study, "me", LEASE)[0].token
        storage.release(study, 0, token)
        before = storage.read(study).trials
        assert not act(storage, study, call, 0, token)
        assert storage.read(study).trials == before

    @pytest.mark.parametrize("call", ["assign", "report", "finish", "release", "drop"])
    def test_unknown_trials_take_nothing(self, storage: Storage, study: int, call: str) -> None:
        """A trial that does not exist is answered False."""
        assert not act(storage, study, call, 5, 1)
        assert storage.read(study).trials == ()

    @pytest.mark.parametrize("call", ["assign", "report", "finish", "release", "drop"])
    def test_finished_trials_take_nothing(self, storage: Storage, study: int, call: str) -> None:
        """A trial ends at most once, and what ended stays as it is."""
        token = storage.claim(study, "me", LEASE)[0].token
        assert storage.finish(study, 0, token, complete(1.0))
        before = storage.read(study).trials
        assert not act(storage, study, call, 0, token)
        assert storage.read(study).trials == before

    def test_tokens_of_dropped_slots_stay_stale(self, storage: Storage, study: int) -> None:
        """A slot that is claimed anew under a dropped one's number does not obey the dropped one's token."""
        old = storage.claim(study, "me", LEASE)[0]
        storage.release(study, old.number, old.token, drop=True)
        new = storage.claim(study, "you", LEASE)[0]
        assert not storage.finish(study, old.number, old.token, complete(1.0))
        assert storage.finish(study, new.number, new.token, complete(2.0))

    def test_tokens_grow_with_attempts(self, storage: Storage, study: int) -> None:
        """Every claim of a trial has a larger token and counts one attempt more."""
        seen = []
        for _ in range(4):
            trial = storage.claim(study, "me", LEASE)[0]
            seen.append((trial.number, trial.attempts, trial.token))
            storage.release(study, 0, trial.token)
        assert [s[:2] for s in seen] == [(0, 1), (0, 2), (0, 3), (0, 4)]
        assert [s[2] for s in seen] == sorted({s[2] for s in seen})

    # what is stored of a trial

    def test_assign(self, storage: Storage, study: int) -> None:
        """A configuration comes back as it was, with the version of its space."""
        params = {"x": 0.1 + 0.2, "i": 2**40, "s": "ü\n", "b": True, "n": None, "tiny": 5e-324, "one": 1.0}
        token = storage.claim(study, "me", LEASE)[0].token
        assert storage.assign(study, 0, token, params, "key", 3)
        trial = storage.read(study).trials[0]
        assert (trial.params, trial.key, trial.space_version, trial.state) == (params, "key", 3, State.RUNNING)
        assert {k: type(v) for k, v in (trial.params or {}).items()} == {k: type(v) for k, v in params.items()}

    def test_keys_are_unique(self, storage: Storage, study: int) -> None:
        """No two trials get the same configuration, unless that is wanted; a trial may get its own again."""
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 3)]
        assert storage.assign(study, 0, tokens[0], {"x": 0.1}, "a", 1)
        assert not storage.assign(study, 1, tokens[1], {"x": 0.1}, "a", 1)
        assert storage.read(study).trials[1].params is None
        assert storage.assign(study, 0, tokens[0], {"x": 0.1}, "a", 2)
        assert storage.assign(study, 1, tokens[1], {"x": 0.2}, "b", 1)
        assert storage.assign(study, 2, tokens[2], {"x": 0.1}, "a", 1, unique=False)

    @pytest.mark.parametrize("state", [State.COMPLETE, State.FAILED, State.PRUNED])
    def test_keys_of_finished_trials_count(self, storage: Storage, study: int, state: State) -> None:
        """A configuration that was evaluated, well or badly, is not assigned again; other studies may have it."""
        storage.add(study, [finished(0.1, state=state)])
        token = storage.claim(study, "me", LEASE)[0].token
        assert not storage.assign(study, 1, token, {"x": 0.1}, "0.1", 1)
        other = storage.open(study_row("other")).id
        token = storage.claim(other, "me", LEASE)[0].token
        assert storage.assign(other, 0, token, {"x": 0.1}, "0.1", 1)

    def test_reports(self, storage: Storage, study: int) -> None:
        """Reports are ordered by step, the first of a step counts, and they outlive the attempt."""
        token = storage.claim(study, "me", LEASE)[0].token
        for step, value in ((3, 0.3), (1, 0.1), (3, 9.9), (-2, 0.2)):
            assert storage.report(study, 0, token, Report(step, {"value": value, "other": 1.0}))
        assert reports_of(storage, study) == [(-2, 0.2), (1, 0.1), (3, 0.3)]
        storage.release(study, 0, token)
        again = storage.claim(study, "you", LEASE)[0]
        assert [r.step for r in again.reports] == [-2, 1, 3]
        assert storage.report(study, 0, again.token, Report(4, {"value": 0.4}))
        assert storage.finish(study, 0, again.token, complete(1.0))
        assert reports_of(storage, study) == [(-2, 0.2), (1, 0.1), (3, 0.3), (4, 0.4)]

    def test_finish(self, storage: Storage, study: int) -> None:
        """Everything of an outcome is stored, and the lease is over."""
        token = storage.claim(study, "me", LEASE)[0].token
        outcome = Outcome(
            State.COMPLETE,
            {"value": 1e-300, "acc": 0.1 + 0.2},
            {"value": 0.5},
            {"x": -1.5},
            seconds=2.5,
            attributes={"a": [1, {"b": None}], "t": "ü"},
        )
        assert storage.finish(study, 0, token, outcome)
        trial = storage.read(study).trials[0]
        assert (trial.state, trial.metrics, trial.sems, trial.gradient) == (
            State.COMPLETE,
            outcome.metrics,
            outcome.sems,
            outcome.gradient,
        )
        assert (trial.seconds, trial.attributes, trial.reason, trial.error) == (2.5, outcome.attributes, None, None)
        assert trial.lease_until is None
        assert (trial.owner, trial.value) == ("me", 1e-300)

    @pytest.mark.parametrize("reason", list(Reason))
    def test_failures(self, storage: Storage, study: int, reason: Reason) -> None:
        """A failure keeps its reason and its message."""
        token = storage.claim(study, "me", LEASE)[0].token
        assert storage.finish(study, 0, token, Outcome(State.FAILED, reason=reason, error="'quoted'\nü"))
        trial = storage.read(study).trials[0]
        assert (trial.state, trial.reason, trial.error, trial.metrics) == (State.FAILED, reason, "'quoted'\nü", {})

    def test_objectives_are_those_of_the_study(self, storage: Storage) -> None:
        """Trials know the names of the objectives, in order."""
        study = storage.open(study_row(directions={"loss": "minimize", "acc": "maximize"})).id
        storage.claim(study, "me", LEASE)
        assert storage.read(study).trials[0].objectives == ("loss", "acc")

    def test_what_goes_in_is_copied(self, storage: Storage, study: int) -> None:
        """Changing a dict after it was stored changes nothing."""
        params, metrics = {"x": 0.5}, {"value": 1.0}
        storage.add(study, [Trial(0, State.COMPLETE, params, metrics, origin=Origin.ADDED, key="k")])
        params["x"], metrics["value"] = 0.9, 9.0
        trial = storage.read(study).trials[0]
        assert (trial.params, trial.metrics) == ({"x": 0.5}, {"value": 1.0})

    # adding

    def test_add(self, storage: Storage, study: int) -> None:
        """Trials are appended under new numbers, with their reports; those that they came with do not matter."""
        storage.claim(study, "me", LEASE)
        rich = Trial(
            55,
            State.PRUNED,
            {"x": 0.5},
            {"value": 2.0},
            {"value": 0.1},
            {"x": 1.0},
            (Report(1, {"value": 3.0}),),
            origin=Origin.ADDED,
            seconds=1.5,
            attributes={"from": "elsewhere"},
            key="k",
        )
        failed = Trial(55, State.FAILED, {"x": 0.6}, reason=Reason.NAN, error="nan", origin=Origin.ADDED, key="l")
        assert storage.add(study, [rich, failed]) == [1, 2]
        assert storage.add(study, []) == []
        first, second = storage.read(study).trials[1:]
        assert (first.state, first.params, first.metrics, first.sems) == (
            rich.state,
            rich.params,
            rich.metrics,
            rich.sems,
        )
        assert (first.gradient, first.reports, first.seconds, first.attributes) == (
            rich.gradient,
            rich.reports,
            rich.seconds,
            rich.attributes,
        )
        assert (second.reason, second.error, second.origin, second.key) == (Reason.NAN, "nan", Origin.ADDED, "l")

    def test_add_passes_over_what_is_known(self, storage: Storage, study: int) -> None:
        """With ``known=False`` a stored key is passed over, also one from the same list; otherwise all are taken."""
        assert storage.add(study, [finished(0.1), finished(0.2)]) == [0, 1]
        assert storage.add(study, [finished(0.2), finished(0.3), finished(0.3)], known=False) == [2]
        assert storage.add(study, [finished(0.2)]) == [3]
        assert storage.add(study, [finished(0.1)], known=False) == []

    # giving back

    def test_release(self, storage: Storage, study: int) -> None:
        """A trial that was given back waits, without an owner, and keeps its configuration."""
        token = storage.claim(study, "me", LEASE)[0].token
        storage.assign(study, 0, token, {"x": 0.5}, "k", 1)
        assert storage.release(study, 0, token)
        trial = storage.read(study).trials[0]
        assert (trial.state, trial.owner, trial.lease_until, trial.params, trial.attempts) == (
            State.WAITING,
            None,
            None,
            {"x": 0.5},
            1,
        )

    def test_release_of_what_did_not_begin(self, storage: Storage, study: int) -> None:
        """It counts as no attempt, once; the token is stale all the same."""
        first = storage.claim(study, "me", LEASE)[0]
        storage.assign(study, 0, first.token, {"x": 0.5}, "k", 1)
        assert storage.release(study, 0, first.token, begun=False)
        assert not storage.release(study, 0, first.token, begun=False)
        assert storage.read(study).trials[0].attempts == 0
        second = storage.claim(study, "me", LEASE)[0]
        assert (second.attempts, second.token > first.token) == (1, True)
        assert storage.release(study, 0, second.token)
        assert storage.claim(study, "me", LEASE)[0].attempts == 2

    def test_paused_trials_rest_until_they_are_released(self, storage: Storage, study: int) -> None:
        """Nobody claims one before; then it has its reports and what it noted, and this was no failed attempt."""
        token = storage.claim(study, "me", LEASE, budget=1)[0].token
        storage.assign(study, 0, token, {"x": 0.5}, "k", 1)
        storage.report(study, 0, token, Report(1, {"value": 0.5}))
        assert storage.finish(study, 0, token, Outcome(State.PAUSED, seconds=2.0, attributes={"a": 1}))
        assert storage.read(study).trials[0].state is State.PAUSED
        assert storage.running(study) == []
        assert storage.claim(study, "other", LEASE, budget=1) == []
        assert not storage.report(study, 0, token, Report(2, {"value": 0.4}))
        assert not storage.finish(study, 0, token, Outcome(State.COMPLETE, {"value": 1.0}))
        assert not storage.release(study, 0, token + 1, begun=False)
        assert storage.release(study, 0, token, begun=False)
        assert not storage.release(study, 0, token, begun=False)
        again = storage.claim(study, "other", LEASE, budget=1)[0]
        assert (again.attempts, again.params, again.seconds, again.attributes) == (1, {"x": 0.5}, 2.0, {"a": 1})
        assert (again.reports, again.token > token) == ((Report(1, {"value": 0.5}),), True)
        assert storage.finish(study, 0, again.token, Outcome(State.COMPLETE, {"value": 1.0}))
        assert storage.read(study).trials[0].state is State.COMPLETE

    def test_drop(self, storage: Storage, study: int) -> None:
        """An unassigned slot disappears; one that has a configuration waits instead."""
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 3)]
        storage.assign(study, 2, tokens[2], {"x": 0.5}, "k", 1)
        assert storage.release(study, 1, tokens[1], drop=True)
        assert storage.release(study, 2, tokens[2], drop=True)
        assert [(t.number, t.state) for t in storage.read(study).trials] == [(0, State.RUNNING), (2, State.WAITING)]
        assert [t.number for t in storage.claim(study, "me", LEASE, 2)] == [2, 3]

    # reading

    def test_read_since(self, storage: Storage, study: int) -> None:
        """Every change is seen once by someone who reads on from the last revision."""
        seen = storage.read(study).revision
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 3)]
        steps: list[tuple[Callable[[], Any], list[int]]] = [
            (lambda: None, [0, 1, 2]),
            (lambda: None, []),
            (lambda: storage.assign(study, 1, tokens[1], {"x": 0.5}, "k", 1), [1]),
            (lambda: storage.report(study, 2, tokens[2], Report(1, {"value": 1.0})), [2]),
            (lambda: storage.finish(study, 1, tokens[1], complete(1.0)), [1]),
            (lambda: storage.release(study, 0, tokens[0]), [0]),
            (lambda: storage.add(study, [finished()]), [3]),
            (lambda: storage.claim(study, "you", LEASE, 2), [0, 4]),
        ]
        for step, expected in steps:
            step()
            changes = storage.read(study, seen)
            assert [t.number for t in changes.trials] == expected
            assert changes.revision >= seen
            seen = changes.revision
        assert [t.number for t in storage.read(study).trials] == [0, 1, 2, 3, 4]

    def test_read_tells_what_was_dropped(self, storage: Storage, study: int) -> None:
        """Who saw a slot learns that it is gone, but not once its number is in use again."""
        token = storage.claim(study, "me", LEASE)[0].token
        before = storage.read(study).revision
        storage.release(study, 0, token, drop=True)
        after = storage.read(study, before)
        assert (after.trials, after.dropped) == ((), (0,))
        assert storage.read(study, after.revision).dropped == ()
        numbers = [t.number for t in storage.claim(study, "me", LEASE)]
        again = storage.read(study, before)
        assert [t.number for t in again.trials] == numbers
        assert not set(again.dropped) & set(numbers)

    def test_revisions_grow(self, storage: Storage, study: int) -> None:
        """A change gives a trial a revision above all that were read before, and never above the study's."""
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 2)]
        before = storage.read(study)
        storage.finish(study, 0, tokens[0], complete(1.0))
        after = storage.read(study)
        assert after.trials[0].revision > before.revision
        assert after.trials[1].revision == before.trials[1].revision
        assert max(t.revision for t in after.trials) <= after.revision

    # sharing

    def test_threads(self, storage: Storage, study: int) -> None:
        """Threads that claim and finish side by side take every slot of the budget once."""
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while claimed := storage.claim(study, "me", LEASE, 2, budget=60):
                    for t in claimed:
                        assert storage.finish(study, t.number, t.token, complete(float(t.number)))
            except BaseException as error:  # noqa: BLE001 - handed to the test below
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        trials = storage.read(study).trials
        assert errors == []
        assert [t.number for t in trials] == list(range(60))
        assert all(t.attempts == 1 and t.value == t.number for t in trials)

    def test_threads_agree_on_keys(self, storage: Storage, study: int) -> None:
        """Of threads that assign the same configuration one succeeds."""
        tokens = [t.token for t in storage.claim(study, "me", LEASE, 8)]
        barrier, answers = threading.Barrier(8), list[bool]()

        def work(number: int) -> None:
            barrier.wait()
            answers.append(storage.assign(study, number, tokens[number], {"x": 0.5}, "same", 1))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False] * 7 + [True]

    def test_close_twice(self, storage: Storage) -> None:
        """Closing a second time is fine."""
        storage.open(study_row())
        storage.close()
        storage.close()


def study_row(name: str = "study", **changes: Any) -> StudyRow:
    """Return a study to open."""
    given: dict[str, Any] = {
        "id": 0,
        "directions": {"value": "minimize"},
        "seed": 0,
        "sampler": {"name": "random"},
        **changes,
    }
    return StudyRow(name=name, **given)


def waiting(x: float) -> Trial:
    """Return an enqueued trial."""
    return Trial(0, State.WAITING, {"x": x}, origin=Origin.ENQUEUED, key=str(x))


def finished(x: float = 0.5, *, state: State = State.COMPLETE) -> Trial:
    """Return a trial with a result from elsewhere."""
    return Trial(0, state, {"x": x}, {"value": x}, origin=Origin.ADDED, key=str(x))


def complete(value: float) -> Outcome:
    """Return a good outcome."""
    return Outcome(State.COMPLETE, {"value": value}, seconds=0.0)


def act(storage: Storage, study: int, call: str, number: int, token: int) -> bool:
    """Do to a trial what only the holder of its token may do."""
    if call == "assign":
        return storage.assign(study, number, token, {"x": 0.9}, "other", 1)
    if call == "report":
        return storage.report(study, number, token, Report(99, {"value": 9.0}))
    if call == "finish":
        return storage.finish(study, number, token, complete(9.0))
    return storage.release(study, number, token, drop=call == "drop")


def reports_of(storage: Storage, study: int) -> list[tuple[int, float]]:
    """Return (step, value) of the first trial's reports."""
    return [(r.step, r.metrics["value"]) for r in storage.read(study).trials[0].reports]
