"""The server and its client: the contract, whole studies, restarts, lost answers, and whatever else may be sent."""

import http.client
import http.server
import json
import os
import pickle
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

import welltuned as wt
from test_storages import SideBySide
from welltuned.cli.app import app as commands
from welltuned.server import make_app
from welltuned.server.app import OPERATIONS
from welltuned.server.running import address_of, listen
from welltuned.storage import MemoryStorage, SQLiteStorage, open_storage
from welltuned.storage.http import HTTPStorage
from welltuned.storage.wire import LIMIT, PROTOCOL, PROTOCOL_HEADER
from welltuned.study.reasons import BUDGET, EXHAUSTED
from welltuned.testing import StorageContract
from welltuned.testing.storage import LEASE, complete, finished, study_row
from welltuned.trial import State

TOKEN = "a-token-for-tests"
SPACE = {"x": (-5.0, 5.0), "kind": ["good", "bad"]}
SERVE = "import sys; from welltuned.cli import main; sys.argv[0] = 'welltuned'; main()"


class Serving:
    """A real server in a thread; what it serves may be changed while it runs."""

    def __init__(self, port=0):
        self.app = None
        self.opened = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    async def _answer(self, scope, receive, send):
        await self.app(scope, receive, send)

    def use(self, storage, **options):
        """Serve a storage, as a server does that was started just now."""
        self.app = make_app(storage, TOKEN, **options)
        self.opened.append(self.app.state.hub)

    def close(self):
        for hub in self.opened:
            hub.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def serving():
    server = Serving()
    yield server
    server.close()


@pytest.fixture
def inner(tmp_path):
    storage = SQLiteStorage(tmp_path / "study.db")
    yield storage
    storage.close()


@pytest.fixture
def server(serving, inner):
    serving.use(inner)
    yield serving
    for hub in serving.opened:
        hub.close()
    serving.opened.clear()


@pytest.fixture
def opened():
    """Open clients that are closed in the end."""
    storages = []

    def opened(url, token=TOKEN, **options):
        storages.append(HTTPStorage(url, token, **options))
        return storages[-1]

    yield opened
    for storage in storages:
        storage.close()


@pytest.fixture
def storage(server, opened):
    return opened(server.url)


def send(port, method, path, body=None, token=TOKEN, headers=None):
    """Send one request with nothing but the standard library; return the status and what was answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request(method, path, content, {**kind, **authorization, **(headers or {})})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Proxy:
    """Stand between client and server: pass on what is said, and lose the answers that ``loses`` names."""

    def __init__(self, port, loses=lambda number: False):
        self._port, self.loses, self.answers, self.silent = port, loses, 0, False
        self._sockets = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._threads.append(threading.Thread(target=self._pass_on, args=(client,)))
            self._threads[-1].start()

    def _pass_on(self, client):
        with client, socket.create_connection(("127.0.0.1", self._port)) as upstream:
            other = threading.Thread(target=self._requests, args=(client, upstream))
            other.start()
            try:
                while data := upstream.recv(1 << 20):
                    if data.startswith(b"HTTP"):
                        self.answers += 1
                        if self.loses(self.answers):
                            break
                    client.sendall(data)
            except OSError:
                pass
            for one in (client, upstream):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            other.join()

    def _requests(self, client, upstream):
        try:
            while data := client.recv(1 << 20):
                if not self.silent:
                    upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for client in self._sockets:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@pytest.fixture
def proxy(server, opened):
    proxies = []

    def proxy(**options):
        proxies.append(Proxy(server.port, **options))
        return proxies[-1]

    yield proxy
    for one in proxies:
        one.close()


@contextmanager
def process(path, port, *options):
    """Run ``welltuned serve`` in a process of its own."""
    running = start(path, port, *options)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def start(path, port, *options):
    command = [sys.executable, "-c", SERVE, "serve", str(path), "--port", str(port), "--token", TOKEN, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def address(running):
    """Wait until a server listens, and return where."""
    running.printed = ""
    while "Ctrl-C" not in running.printed:
        line = running.stdout.readline()
        assert line, running.printed
        running.printed += line
    return running.printed.split()[3]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


# the contract


class TestContract(StorageContract):
    @pytest.fixture
    def storage(self, server, opened):
        return opened(server.url)


class OverHTTP(SideBySide):
    """The same operations have the same answers in memory and over HTTP."""

    def others(self):
        self.server = Serving()
        self.server.use(MemoryStorage())
        return [HTTPStorage(self.server.url, TOKEN)]

    def teardown(self):
        super().teardown()
        self.server.close()


class TestOverHTTP(OverHTTP.TestCase):
    settings = settings(max_examples=6, stateful_step_count=20, derandomize=True, deadline=None, database=None)


# whole studies


def parabola(trial):
    return (trial["x"] - 2) ** 2 + (trial["kind"] == "bad")


def test_a_study_over_http_is_the_study_in_memory(server, monkeypatch):
    """The same seed leads to the same trials, whatever lies between."""
    monkeypatch.setenv("WELLTUNED_TOKEN", TOKEN)
    far = wt.Study(SPACE, storage=server.url, seed=3)
    near = wt.Study(SPACE, seed=3)
    for study in (far, near):
        study.optimize(parabola, n_trials=12)
    assert [t.params for t in far.trials] == [t.params for t in near.trials]
    assert [t.value for t in far.trials] == [t.value for t in near.trials]
    assert far.stop_reason == near.stop_reason
    assert wt.Study(storage=server.url).best.params == far.best.params


def test_choices_come_back_as_objects(storage):
    class Thing:
        def __repr__(self):
            return "Thing()"

    things = [Thing(), Thing]
    study = wt.Study({"thing": wt.Categorical({"one": things[0], "two": things[1]})}, storage=storage, seed=0)
    study.optimize(lambda trial: float(trial["thing"] is things[0]), n_trials=2)
    assert {id(t.params["thing"]) for t in study.trials} == {id(thing) for thing in things}


WORKER = """
import sys, time
import welltuned as wt
study = wt.Study({"x": (-5.0, 5.0)}, storage=sys.argv[1], sampler="random", lease=2.0)
def objective(trial):
    time.sleep(0.02)
    return trial["x"] ** 2
study.optimize(objective, n_trials=int(sys.argv[2]))
"""


def worker(url, n):
    env = {**os.environ, "WELLTUNED_TOKEN": TOKEN}
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(n)], stderr=subprocess.PIPE, env=env)


def test_two_processes_share_a_budget(server, inner):
    workers = [worker(server.url, 30) for _ in range(2)]
    errors = [w.communicate(timeout=60)[1] for w in workers]
    assert [w.returncode for w in workers] == [0, 0], errors
    trials = inner.read(1).trials
    assert [t.number for t in trials] == list(range(30))
    assert all(t.state is State.COMPLETE and t.attempts == 1 for t in trials)
    assert len({t.owner for t in trials}) == 2


def test_worker_processes_and_a_pickled_storage(storage):
    study = wt.Study({"x": (0.0, 1.0)}, storage=storage, seed=0, sampler="random")
    study.optimize(lambda trial: trial["x"], n_trials=4, workers=2)
    assert len(study.trials) == 4
    again = pickle.loads(pickle.dumps(storage))
    assert [row.name for row in again.studies()] == ["study"]
    again.close()


def test_a_forked_child_opens_its_own_connection(storage, inner):
    study = storage.open(study_row()).id
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(storage.claim(study, "child", LEASE)) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(storage.claim(study, "parent", LEASE)) == 1
    assert [t.owner for t in inner.read(study).trials] == ["child", "parent"]


# what breaks on the way


def test_a_server_that_is_killed_and_started_again(tmp_path):
    """The study goes on, and evaluates exactly what it was to evaluate."""
    path, port = tmp_path / "study.db", free_port()
    running = start(path, port)
    url = address(running)
    workers = [worker(url, 40) for _ in range(2)]
    try:
        for n in (10, 25):
            while not path.exists() or len(done(path)) < n:
                time.sleep(0.1)
                assert all(w.poll() is None for w in workers)
            running.kill()
            running.communicate()
            time.sleep(0.3)
            running = start(path, port)
        errors = [w.communicate(timeout=60)[1] for w in workers]
    finally:
        for one in (running, *workers):
            one.kill()
            one.communicate()
    assert [w.returncode for w in workers] == [0, 0], errors
    storage = SQLiteStorage(path)
    trials = storage.read(1).trials
    storage.close()
    assert [t.number for t in trials] == list(range(40))
    assert all(t.state is State.COMPLETE for t in trials)


def done(path):
    storage = SQLiteStorage(path)
    try:
        return [t for row in storage.studies() for t in storage.read(row.id).trials if t.state is State.COMPLETE]
    finally:
        storage.close()


def test_lost_answers_count_once(proxy, opened, inner):
    """Every third answer is lost; each change is done once all the same."""
    storage = opened(proxy(loses=lambda number: number > 3 and number % 3 == 0).url)
    study = wt.Study({"x": (0.0, 1.0)}, storage=storage, seed=0, sampler="random")
    study.add([({"x": 0.5}, 0.5)])
    study.optimize(lambda trial: trial["x"], n_trials=15)
    trials = inner.read(1).trials
    assert [t.number for t in trials] == list(range(16))
    assert all(t.state is State.COMPLETE and t.attempts == (t.number > 0) for t in trials)


@pytest.fixture
def losing(proxy, opened, server, inner):
    """A client that loses the next answer when told so, while the server is started anew."""

    armed = []

    def loses(number):
        if not armed:
            return False
        armed.clear()
        server.use(inner)
        return True

    storage = opened(proxy(loses=loses).url)
    storage.lose_next = lambda: armed.append(True)
    storage.has_lost = lambda: not armed
    return storage


def test_a_result_that_was_stored_before_a_restart_counts(losing, inner):
    study = losing.open(study_row()).id
    one, two = losing.claim(study, "me", LEASE, 2)
    losing.lose_next()
    assert losing.finish(study, 0, one.token, complete(1.5))
    assert inner.read(study).trials[0].value == 1.5
    assert not losing.finish(study, 0, one.token, complete(1.5))
    inner.release(study, 1, two.token)
    losing.lose_next()
    assert not losing.finish(study, 1, two.token, complete(1.5))


def test_what_may_have_been_added_before_a_restart_is_said_to_be(losing, inner):
    study = losing.open(study_row()).id
    losing.lose_next()
    with pytest.raises(wt.StorageError, match="may have been added, or not"):
        losing.add(study, [finished()])
    losing.lose_next()
    assert losing.add(study, [finished()], known=False) == []
    assert len(inner.read(study).trials) == 1


def test_a_space_that_was_stored_before_a_restart_is_not_stored_again(losing, inner):
    study = losing.open(study_row()).id
    losing.lose_next()
    assert len(losing.update(study, space={"parameters": {}}).spaces) == 1


def test_other_changes_may_be_repeated_after_a_restart(losing, inner):
    study = losing.open(study_row()).id
    token = losing.claim(study, "me", LEASE)[0].token
    losing.lose_next()
    assert losing.assign(study, 0, token, {"x": 0.5}, "k", 1)
    losing.lose_next()
    assert losing.renew(study, [(0, token)], LEASE) == []
    losing.lose_next()
    assert losing.claim(study, "me", LEASE)[0].number == 2  # 1 is nobody's until its lease runs out
    assert losing.has_lost()


def searched(storage, n):
    study = wt.Study({"x": (0.0, 1.0)}, storage=storage, name="mlp", sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=n, progress=False)
    return study


def test_a_study_on_a_server_is_deleted_with_its_checkpoints(server, storage, inner):
    study = searched(storage, 5)
    local = wt.Study(storage=inner, name="mlp")
    folder = Path(local.coordinator.folders.root)
    (folder / "0").mkdir(parents=True)
    assert wt.delete_study(storage, "mlp") == 5
    assert inner.studies() == []
    assert not folder.exists()
    with pytest.raises(wt.UnknownStudy, match="study 'mlp' is gone"):
        study.optimize(lambda t: t["x"], n_trials=9, progress=False)
    with pytest.raises(wt.InvalidValue, match=r"has no study 'mlp'; it has \[\]"):
        wt.delete_study(storage, "mlp")


def test_the_token_is_asked_for(server, storage):
    study = storage.open(study_row()).id
    assert send(server.port, "POST", "/v1/storage/delete", {"study": study}, token="wrong")[0] == 401
    assert send(server.port, "POST", "/v1/storage/delete", {"study": study})[0] == 200
    status, answer = send(server.port, "POST", "/v1/storage/delete", {"study": study})
    assert (status, answer["error"]["type"]) == (404, "UnknownStudy")


@pytest.mark.parametrize("by", ["client", "owner"])
def test_workers_in_other_languages_meet_the_new_study(by, server, storage, inner):
    """The server keeps studies open, by their names and by their numbers."""

    def ask():
        return send(server.port, "POST", "/v1/studies/mlp/ask", {"n_trials": 20})

    searched(storage, 5)
    number = ask()[1]["trials"][0]["number"]
    assert number == 5
    path = f"/v1/studies/mlp/trials/{number}"
    wt.delete_study(storage if by == "client" else inner, "mlp")
    assert send(server.port, "POST", f"{path}/renew", {"token": 1})[0] == 404
    status, answer = send(server.port, "POST", f"{path}/tell", {"token": 1, "value": 0.5})
    assert (status, answer["error"]["message"]) == (404, "there is no study 'mlp'")
    assert ask()[0] == 404
    wt.Study({"y": (0.0, 1.0)}, storage=storage, name="mlp", sampler="random", seed=1)
    assert send(server.port, "POST", "/v1/studies/mlp/stop", {"reason": None})[0] == 200
    trial = ask()[1]["trials"][0]
    assert (trial["number"], list(trial["params"])) == (0, ["y"])
    assert send(server.port, "POST", "/v1/studies/mlp/trials/0/tell", {"token": 1, "value": 0.5})[0] == 200


def test_a_study_that_was_made_anew_meanwhile_is_met_at_once(server, storage, inner):
    searched(storage, 5)
    assert send(server.port, "GET", "/v1/studies/mlp")[1]["counts"]["complete"] == 5
    wt.delete_study(inner, "mlp")
    searched(inner, 2)
    assert send(server.port, "GET", "/v1/studies/mlp")[1]["counts"]["complete"] == 2


def test_deleting_may_be_repeated_after_a_restart(losing):
    study = losing.open(study_row()).id
    losing.claim(study, "me", LEASE, 2)
    losing.lose_next()
    assert losing.delete(study) == 0  # it was done, and how many there were is lost
    assert losing.has_lost()
    with pytest.raises(wt.StorageError, match="deleted"):
        losing.delete(study)


def test_another_storage_behind_the_same_address_is_refused(server, storage, inner):
    """Its studies have the same numbers, and are others: nothing is written to them."""
    alpha = storage.open(study_row("alpha", created=0.0)).id
    token = storage.claim(alpha, "me", LEASE)[0].token
    other = MemoryStorage()
    other.claim(other.open(study_row("beta", created=0.0)).id, "you", LEASE)
    same_name = MemoryStorage()
    same_name.open(study_row("alpha", created=12.5))
    travelled = pickle.loads(pickle.dumps(storage))
    for served in (other, same_name, MemoryStorage()):
        server.use(served)
        before = [served.read(row.id) for row in served.studies()]
        for client in (storage, travelled):
            for act in (
                lambda c=client: c.claim(alpha, "me", LEASE),
                lambda c=client: c.finish(alpha, 0, token, complete(1.0)),
                lambda c=client: c.read(alpha),
                lambda c=client: c.running(alpha),
                lambda c=client: c.update(alpha, stop_reason="x"),
                lambda c=client: c.add(alpha, [finished()]),
            ):
                with pytest.raises(wt.StorageError, match=r"serves another storage.*'alpha'"):
                    act()
        assert [served.read(row.id) for row in served.studies()] == before
    server.use(other)
    with pytest.raises(wt.StorageError, match="serves another storage"):
        storage.studies()
    server.use(inner)
    assert storage.finish(alpha, 0, token, complete(1.0))
    travelled.close()


def test_an_older_copy_behind_the_same_address_is_refused(server, storage, tmp_path):
    study = storage.open(study_row()).id
    with sqlite3.connect(tmp_path / "study.db") as source, sqlite3.connect(tmp_path / "copy.db") as target:
        source.backup(target)
    source.close()
    target.close()
    storage.claim(study, "me", LEASE, 5)
    seen = storage.read(study).revision
    copy = SQLiteStorage(tmp_path / "copy.db")
    server.use(copy)
    for since in (0, seen, None):
        with pytest.raises(wt.StorageError, match=rf"older copy.*revision 0.*after {seen}"):
            storage.read(study, since)
    copy.close()


def test_the_same_key_is_done_once(server, storage, inner):
    study = storage.open(study_row()).id
    body = {"study": study, "owner": "me", "lease": 60}
    answers = [send(server.port, "POST", "/v1/storage/claim", body, headers={"Idempotency-Key": "k"}) for _ in "ab"]
    assert answers[0] == answers[1]
    assert len(inner.read(study).trials) == 1
    other = send(server.port, "POST", "/v1/storage/claim", {**body, "n": 2}, headers={"Idempotency-Key": "k"})
    assert other[0] == 422 and "another request" in other[1]["error"]["message"]
    for key in ("", "x" * 201, "a b", "ä"):
        assert send(server.port, "POST", "/v1/storage/claim", body, headers={"Idempotency-Key": key})[0] == 422
    threads = [
        threading.Thread(
            target=send, args=(server.port, "POST", "/v1/storage/claim", body, TOKEN, {"Idempotency-Key": "j"})
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inner.read(study).trials) == 2


def test_what_failed_may_be_tried_again_under_the_same_key(server, storage, monkeypatch):
    study = storage.open(study_row()).id
    body, key = {"study": study, "owner": "me", "lease": 60}, {"Idempotency-Key": "k"}
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStorage, "claim", lambda *a: 1 / 0)
        status, answer = send(server.port, "POST", "/v1/storage/claim", body, headers=key)
        assert (status, answer["error"]["message"]) == (500, "the server failed; its log says why")
        with pytest.raises(wt.StorageError, match="its log"):
            storage.claim(study, "me", LEASE)
    assert send(server.port, "POST", "/v1/storage/claim", body, headers=key)[0] == 200


def test_a_waiting_reader_holds_up_nobody(server, storage, opened):
    study = storage.open(study_row()).id
    seen = storage.read(study).revision
    results = []
    threads = [threading.Thread(target=lambda: results.append(storage.read(study, seen, wait=20.0))) for _ in range(40)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    time.sleep(0.3)
    assert len(storage.claim(study, "me", LEASE)) == 1
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 19  # not when their time is over
    assert [len(r.trials) for r in results] == [1] * 40


def test_a_change_past_the_server_is_seen(storage, inner):
    study = storage.open(study_row()).id
    timer = threading.Timer(0.2, lambda: inner.claim(study, "me", LEASE))
    timer.start()
    began = time.monotonic()
    assert len(storage.read(study, 0, wait=20.0).trials) == 1
    assert time.monotonic() - began < 19
    timer.join()


# what is no server of ours


def test_half_open_connections_are_given_up(proxy, opened):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        with pytest.raises(wt.StorageError, match="no answer"):
            HTTPStorage(f"http://127.0.0.1:{deaf.getsockname()[1]}", TOKEN, patience=0.5)
        assert time.monotonic() - began < 20
    between = proxy()
    storage = opened(between.url, patience=0.7)
    between.silent = True
    began = time.monotonic()
    with pytest.raises(wt.StorageError, match="no answer"):
        storage.studies()
    assert time.monotonic() - began < 20


def test_where_nobody_listens():
    with pytest.raises(wt.StorageError, match=r"refused.*welltuned serve"):
        HTTPStorage(f"http://127.0.0.1:{free_port()}", TOKEN, patience=0.3)


def test_a_server_that_comes_later(inner, opened):
    port, servers = free_port(), []

    def begin():
        servers.append(Serving(port))
        servers[0].use(inner)

    timer = threading.Timer(0.5, begin)
    timer.start()
    assert opened(f"http://127.0.0.1:{port}", patience=30.0).studies() == []
    timer.join()
    servers[0].close()


def test_ctrl_c_does_not_wait_for_a_server_that_is_away(inner, opened):
    """Whatever its patience is; and it stays a Ctrl-C."""
    server = Serving()
    server.use(inner)
    study = wt.Study(SPACE, storage=opened(server.url, patience=3600.0), seed=0)

    def objective(trial):
        if trial.number == 2:
            server.close()
            raise KeyboardInterrupt
        return trial["x"]

    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=5)
    with pytest.raises(wt.StorageError, match="not reached"):
        opened(server.url, patience=0.1)
    assert [t.state for t in inner.read(1).trials] == [State.COMPLETE, State.COMPLETE, State.RUNNING]


class Stranger(http.server.BaseHTTPRequestHandler):
    headers_sent = {}
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"<html>")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@contextmanager
def stranger(**what):
    found = http.server.HTTPServer(("127.0.0.1", 0), type("Other", (Stranger,), what))
    thread = threading.Thread(target=found.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ({}, "no server of welltuned"),
        ({"status": 404}, "no server of welltuned"),
        ({"status": 301, "headers_sent": {"Location": "http://127.0.0.1/"}}, "no server of welltuned"),
        ({"headers_sent": {PROTOCOL_HEADER: str(PROTOCOL)}}, "cannot be read"),
        ({"headers_sent": {PROTOCOL_HEADER: "1"}}, r"version '1'.*same version of welltuned"),
        ({"status": 503}, "a proxy answers 503"),
    ],
)
def test_a_stranger_at_the_address(what, match):
    with stranger(**what) as url, pytest.raises(wt.StorageError, match=match):
        HTTPStorage(url, TOKEN, patience=0.3)


def test_what_does_not_speak_http():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet():
            client, _ = other.accept()
            with client:
                client.recv(1000)
                client.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(wt.StorageError, match="does not speak http"):
            HTTPStorage(f"http://127.0.0.1:{other.getsockname()[1]}", TOKEN, patience=5.0)
        thread.join()


@pytest.mark.parametrize(
    "url",
    ["http://", "http://host:port", "http://host:99999", "http://a b:1", "http://host:1?x=1", "http://host:1#x"],
)
def test_addresses_that_cannot_be_read(url):
    with pytest.raises(wt.InvalidValue, match="write http://host:8642"):
        HTTPStorage(url, TOKEN)


# tokens


def test_the_token_is_found_where_it_is_given(server, monkeypatch):
    monkeypatch.delenv("WELLTUNED_TOKEN", raising=False)
    with pytest.raises(wt.StorageError, match="WELLTUNED_TOKEN"):
        open_storage(server.url)
    with_token = server.url.replace("//", f"//:{TOKEN}@")
    for storage in (open_storage(with_token), HTTPStorage(server.url, token=TOKEN)):
        assert TOKEN not in repr(storage) + storage.where + storage.url
        assert storage.studies() == []
        storage.close()
    monkeypatch.setenv("WELLTUNED_TOKEN", TOKEN)
    storage = open_storage(server.url + "/")
    assert storage.studies() == []
    storage.close()


def test_a_wrong_token_is_named_and_not_shown(server, opened):
    for make in (
        lambda: HTTPStorage(server.url, "nonsense"),
        lambda: HTTPStorage(server.url.replace("//", "//:nonsense@")),
    ):
        with pytest.raises(wt.StorageError, match="WELLTUNED_TOKEN") as error:
            make()
        assert "nonsense" not in str(error.value)
    for url in (f"http://:{TOKEN}@host:port", f"http://:{TOKEN}@host:1?x"):
        with pytest.raises(wt.InvalidValue) as error:
            HTTPStorage(url)
        assert TOKEN not in str(error.value)
    for token in ("two words", "line\r\nbreak", "ü"):
        with pytest.raises(wt.InvalidValue, match="printable ASCII"):
            HTTPStorage(server.url, token)
        with pytest.raises(wt.InvalidValue, match="printable ASCII"):
            make_app(MemoryStorage(), token)
    with pytest.raises(wt.InvalidType, match="token"):
        make_app(MemoryStorage(), None)


@pytest.mark.parametrize(
    "url",
    [
        "http://:ab/cdSECRET@host:8642",
        "http://:12/SECRET@host:8642",
        "http://SECRET/SECRET@host:8642",
        "http://:abSECRET#x@host:8642",
        "http://:se?SECRET@host:1",
        "http://:SECRET[@host:1",
        "http://:SECRET 1@host:1",
        "http://:SE@CRET/SECRET@host:99999",
        "HTTP://:SECRET@host:port",
    ],
)
def test_a_token_that_breaks_its_address_is_not_shown(url):
    with pytest.raises(wt.InvalidValue, match="percent-encode the token, or use WELLTUNED_TOKEN") as caught:
        open_storage(url)
    assert "SECRET" not in str(caught.value) and "'ab" not in str(caught.value)


def test_schemes_are_read_in_either_case(server):
    storage = open_storage(server.url.replace("http://", f"HTTP://:{TOKEN}@"))
    assert storage.studies() == []
    storage.close()
    with pytest.raises(wt.InvalidValue, match="unknown scheme 'httpx'") as caught:
        open_storage("httpx://:SECRET@host")
    assert "SECRET" not in str(caught.value)


def test_a_token_that_changes_is_noticed(server, storage):
    server.app = make_app(MemoryStorage(), "another")
    with pytest.raises(wt.StorageError, match="WELLTUNED_TOKEN"):
        storage.studies()
    server.app.state.hub.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.path)
def test_nobody_passes_without_the_token(server, operation):
    path = operation.path.replace("{name}", "study").replace("{number}", "0")
    for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ü"):
        headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
        status, answer = send(server.port, operation.method, path, {} if operation.body else None, None, headers)
        assert (status == 200) if operation.public else (status, answer["error"]["type"]) == (401, "Unauthorized")


@pytest.mark.parametrize("header", [TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", "Bearer", f"Bearer {TOKEN} {TOKEN}"])
def test_the_token_has_its_form(server, header):
    assert send(server.port, "GET", "/v1/studies", token=None, headers={"Authorization": header})[0] == 401
    assert send(server.port, "GET", "/nowhere", token=None, headers={"Authorization": header})[0] == 401


# what may be sent


def test_malicious_bytes_are_refused(server, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    body = pickle.dumps(Evil())
    for operation in OPERATIONS:
        if operation.body is None:
            continue
        path = operation.path.replace("{name}", "study").replace("{number}", "0")
        assert send(server.port, "POST", path, body)[0] == 400
        assert send(server.port, "POST", path, body, headers={"Content-Type": "application/octet-stream"})[0] == 415
        assert send(server.port, "POST", path, {"x": body.hex()})[0] == 422
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("body", "status", "match"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "line 1, column 2"),
        (b"\xff{}", 400, "UTF-8"),
        (b'{"study": NaN}', 400, "NaN"),
        (b"[" * 100_000, 400, "nested"),
        (b"1" * 5000, 400, "not JSON"),
        (b"[]", 422, "not an object"),
        (b"{}", 422, "lacks 'study'"),
        (b'{"study": "1", "owner": "me", "lease": 1}', 422, 'the body.study: "1" is not an integer'),
        (b'{"study": true, "owner": "me", "lease": 1}', 422, "not an integer"),
        (b'{"study": 1e999, "owner": "me", "lease": 1}', 422, "not an integer"),
        (b'{"study": -1, "owner": "me", "lease": 1}', 422, "at least 0"),
        (b'{"study": 1, "owner": "me", "lease": 1e999}', 422, "too large"),
        (b'{"study": 1, "owner": "me", "lease": 1, "n": 99999999}', 422, "at most"),
        (b'{"study": 1, "owner": "me", "lease": 1, "lease_time": 2}', 422, 'unknown field "lease_time"'),
        (b'{"study": 77, "owner": "me", "lease": 1}', 404, "no study 77"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_was_expected(server, storage, body, status, match):
    storage.open(study_row())
    found, answer = send(server.port, "POST", "/v1/storage/claim", body)
    assert (found, match in answer["error"]["message"]) == (status, True), answer


def test_records_are_checked_to_the_bottom(server, storage):
    study = storage.open(study_row()).id
    token = storage.claim(study, "me", LEASE)[0].token

    def finish(**outcome):
        body = {"study": study, "number": 0, "token": token, "outcome": {"state": "complete", **outcome}}
        return send(server.port, "POST", "/v1/storage/finish", body)

    for wrong, match in (
        ({"state": "done"}, "one of"),
        ({"metrics": {"value": "1"}}, "the body.outcome.metrics.value"),
        ({"exception": "x"}, "unknown field"),
        ({"attributes": json.loads("[" * 80 + "]" * 80)}, "not an object"),
        ({"attributes": {"a": json.loads("[" * 80 + "]" * 80)}}, "levels deep"),
        ({"seconds": 10**400}, "too large"),
    ):
        status, answer = finish(**wrong)
        assert status == 422 and match in answer["error"]["message"], answer
    assert finish(metrics={"value": 10**6}, error="\ud800\0") == (200, True)
    trial = storage.read(study).trials[0]
    assert (trial.metrics, trial.error) == ({"value": 1e6}, "\\ud800\\0")


def test_numbers_that_are_not_finite_do_not_leave_the_client(storage):
    study = storage.open(study_row()).id
    token = storage.claim(study, "me", LEASE)[0].token
    with pytest.raises(wt.InvalidValue, match="not finite"):
        storage.finish(study, 0, token, complete(float("nan")))
    with pytest.raises(wt.InvalidType, match="JSON"):
        storage.assign(study, 0, token, {"x": object()}, "k", 1)
    with pytest.raises(wt.InvalidType, match=r"the body\.params\.x"):
        storage.assign(study, 0, token, {"x": [1]}, "k", 1)


def test_numbers_that_are_not_finite_do_not_break_a_reader(server, storage, inner):
    study = storage.open(study_row()).id
    token = storage.claim(study, "me", LEASE)[0].token
    inner.finish(study, 0, token, complete(float("inf")))
    assert storage.read(study).trials[0].metrics == {}


def test_a_result_that_is_too_large_is_stored_without_what_makes_it_so(server, study, inner, caplog):
    """The trial is recorded and the study goes on; else every worker in turn would end at it."""

    def objective(trial):
        if trial.number == 0:
            raise RuntimeError("head " + "x" * (LIMIT + 1) + " tail")
        if trial.number == 1:
            trial.note(small=1, large="y" * (LIMIT + 1), last=[2])
        if trial.number == 2:
            tree = {}
            for _ in range(80):
                tree = {"k": tree}
            trial.note(tree=tree)
        return trial["x"]

    study.optimize(objective, n_trials=4)
    one, two, three, four = inner.read(1).trials
    assert [t.state for t in (one, two, three, four)] == [State.FAILED, *[State.COMPLETE] * 3]
    assert len(one.error) < 40_000 and one.error.startswith("RuntimeError: head x") and "x tail (" in one.error
    assert two.attributes == {"small": 1, "large": f"(left out: {LIMIT + 3} bytes)", "last": [2]}
    assert "['large']" in caplog.text
    assert three.attributes["tree"].startswith("{'k': {'k'")
    asked = call(server, "/study/ask", {"n_trials": 5})["trials"][0]
    body = {"token": asked["token"], "state": "failed", "error": "z" * 100_000}
    told = call(server, f"/study/trials/{asked['number']}/tell", body)
    assert len(told["error"]) < 40_000
    assert call(server, f"/study/trials/{asked['number']}/tell", body) == told


def test_oversized_bodies_are_refused_and_the_server_lives(server, storage):
    with pytest.raises(wt.InvalidValue, match="16 at once"):
        storage.add(storage.open(study_row()).id, [finished().but(error="x" * LIMIT)])
    for lines in (
        [f"Content-Length: {LIMIT + 1}"],
        ["Transfer-Encoding: chunked"],
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            head = ["POST /v1/storage/open HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *lines]
            raw.sendall("\r\n".join([*head, "Content-Type: application/json", "", ""]).encode())
            if "chunked" in lines[0]:
                for _ in range(LIMIT // (1 << 20) + 1):
                    raw.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 413")
    assert len(storage.studies()) == 1


def test_a_body_that_breaks_off_is_no_error_of_the_server(server, storage, caplog):
    """A client that dies in the middle of its request leaves nothing behind, in the log neither."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        head = ["POST /v1/storage/open HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Length: 100"]
        raw.sendall("\r\n".join([*head, "Content-Type: application/json", "", "{"]).encode())
        time.sleep(0.2)
    time.sleep(0.2)
    assert storage.studies() == []
    assert caplog.records == []


def test_paths_and_methods_that_are_none(server):
    for method, path, status in (
        ("GET", "/no", 404),
        ("GET", "/v1/studies/", 404),
        ("GET", "/v1/studies/no", 404),
        ("DELETE", "/v1/studies", 405),
        ("GET", "/v1/storage/claim", 405),
        ("GET", "/v1/studies?x=1", 422),
        ("GET", "/v1/studies/no/trials?limit=all", 422),
        ("GET", "/v1/studies/no/trials?limit=0", 422),
        ("GET", f"/v1/studies/{'x' * 600}", 422),
    ):
        found, answer = send(server.port, method, path)
        assert (found, set(answer["error"])) == (status, {"type", "message"}), path


# workers in other languages


@pytest.fixture
def study(storage):
    return wt.Study(SPACE, storage=storage, seed=0, direction="minimize")


def call(server, path, body=None):
    """Do what a program in another language does."""
    request = urllib.request.Request(
        f"{server.url}/v1/studies{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["error"]


def test_a_worker_in_another_language(server, study, inner):
    """Ask, report until told to stop, tell; until nothing is left."""
    server.use(inner, scheduler="median")
    stopped = 0
    while True:
        answer = call(server, "/study/ask", {"n_trials": 14, "worker": "shell"})
        if isinstance(answer, tuple):
            break
        (trial,) = answer["trials"]
        value = trial["params"]["x"] ** 2 + (trial["params"]["kind"] == "bad")
        path = f"/study/trials/{trial['number']}"
        for step in (1, 2, 3):
            stop = call(server, f"{path}/report", {"token": trial["token"], "step": step, "value": value / step})[
                "stop"
            ]
            if stop:
                break
        stopped += stop
        result = {"state": "pruned"} if stop else {"value": value, "seconds": 1.5}
        assert call(server, f"{path}/tell", {"token": trial["token"], **result})["number"] == trial["number"]
    assert answer[0] == 409 and answer[1]["type"] == "StudyStopped" and "budget" in answer[1]["message"]
    assert len(study.trials) == 14
    assert sum(t.state is State.PRUNED for t in study.trials) == stopped > 0
    assert all(t.owner == "worker shell" and len(t.reports) >= 1 for t in study.trials)
    seen = call(server, "/study")
    assert seen["counts"]["complete"] == 14 - stopped and seen["counts"]["pruned"] == stopped
    assert seen["best"]["number"] == study.best.number and seen["best"]["seconds"] == 1.5
    assert seen["space"] == study.space.to_json()
    (listed,) = call(server, "")["studies"]
    assert listed == {"name": "study", "directions": {"value": "minimize"}, "stop_reason": BUDGET}


def test_the_end_is_stored_and_taken_back(server, storage):
    """Nothing but workers in other languages: who asks in vain finds out that the study is over."""
    wt.Study({"x": (0.0, 1.0)}, storage=storage, name="budget")
    wt.Study({"k": [1, 2]}, storage=storage, name="finite")
    for name, reason, body in (("budget", BUDGET, {"n_trials": 2}), ("finite", EXHAUSTED, {})):
        one, two = call(server, f"/{name}/ask", {**body, "n": 2})["trials"]
        call(server, f"/{name}/trials/0/tell", {"token": one["token"], "value": 1})
        assert call(server, f"/{name}/ask", body)[0] == 409
        assert call(server, f"/{name}")["stop_reason"] is None  # the other one is still under way
        call(server, f"/{name}/trials/1/tell", {"token": two["token"], "value": 1})
        assert call(server, f"/{name}/ask", body)[0] == 409
        assert call(server, f"/{name}")["stop_reason"] == reason
    assert call(server, "/budget/ask", {"n_trials": 3})["trials"][0]["number"] == 2
    assert call(server, "/budget")["stop_reason"] is None


def test_what_a_worker_may_tell(server, study):
    asked = call(server, "/study/ask", {"n": 5})["trials"]
    tokens = [t["token"] for t in asked]

    def tell(number, **result):
        return call(server, f"/study/trials/{number}/tell", {"token": tokens[number], **result})

    first = tell(0, metrics={"value": 1, "extra": 2}, sem=0.5, gradient={"x": 3}, attributes={"a": [1]})
    assert (first["metrics"], first["sems"], first["gradient"]) == ({"value": 1, "extra": 2}, {"value": 0.5}, {"x": 3})
    assert (first["attributes"], first["seconds"] >= 0) == ({"a": [1]}, True)
    assert tell(0, metrics={"value": 1, "extra": 2}) == first  # the answer was lost, say
    assert tell(0, value=2)[1]["type"] == "LeaseLost"
    failed = tell(1, state="failed", reason="out_of_memory", error="boom")
    assert (failed["state"], failed["reason"], failed["error"]) == ("failed", "out_of_memory", "boom")
    assert tell(2, state="pruned")["state"] == "pruned"
    for wrong in (
        {},
        {"value": 1, "metrics": {"value": 1}},
        {"metrics": {"other": 1}},
        {"value": 1, "gradient": {"z": 1}},
        {"state": "failed", "value": 0},
        {"state": "failed", "metrics": {"value": 1}},
        {"state": "pruned", "sem": 0.5},
        {"state": "pruned", "reason": "timeout"},
        {"value": 1, "error": "boom"},
        {"value": 1, "reason": "timeout"},
    ):
        assert tell(3, **wrong)[0] == 422
    for wrong in ({}, {"value": 1, "metrics": {"value": 1}}, {"metrics": {"loss": 1}}):
        assert call(server, "/study/trials/3/report", {"token": tokens[3], "step": 1, **wrong})[0] == 422
    for act, body in (("report", {"step": 1, "value": 1}), ("renew", {}), ("release", {}), ("tell", {"value": 1})):
        status, error = call(server, f"/study/trials/77/{act}", {"token": 1, **body})
        assert (status, "no trial 77" in error["message"]) == (404, True)
    assert call(server, "/study/trials/3/release", {"token": tokens[3]}) == {}
    for act, body in (("report", {"step": 1, "value": 1}), ("renew", {}), ("release", {}), ("tell", {"value": 1})):
        status, error = call(server, f"/study/trials/3/{act}", {"token": tokens[3], **body})
        assert (status, error["type"]) == (409, "LeaseLost")
    again = call(server, "/study/ask", {})["trials"][0]
    assert (again["number"], again["params"]) == (3, asked[3]["params"])
    assert again["token"] > tokens[3]


def test_a_claim_is_the_workers_own(server, study, inner):
    """The server does not renew it; reporting and renewing do."""
    one, two, three = call(server, "/study/ask", {"n": 3, "lease": 1})["trials"]
    assert call(server, f"/study/trials/{one['number']}/renew", {"token": one["token"], "lease": 60}) == {"lease": 60}
    report = {"token": two["token"], "step": 1, "value": 1, "lease": 60}
    assert call(server, f"/study/trials/{two['number']}/report", report) == {"stop": False}
    time.sleep(1.1)
    again = call(server, "/study/ask", {})["trials"][0]
    assert (again["number"], again["params"]) == (three["number"], three["params"])
    # another server, or the same one started anew, does not take it for a dead process's
    server.use(inner)
    assert call(server, "/study/ask", {})["trials"][0]["number"] == 3


def test_a_trial_that_is_given_back_again_and_again_is_not_given_up(server, study):
    """Whoever gives a trial back is well: that is no attempt at which a worker died."""
    call(server, "/study/enqueue", {"params": {"x": 1.25, "kind": "bad"}})
    for _ in range(14):
        (trial,) = call(server, "/study/ask", {})["trials"]
        assert (trial["number"], trial["params"]) == (0, {"x": 1.25, "kind": "bad"})
        call(server, "/study/trials/0/release", {"token": trial["token"]})
    assert study.trials[0].attempts == 0


def test_a_long_lease_stays_long(server, study, inner):
    """Whoever asked for an hour has it after a report as well, and after a restart what is left of it."""

    def left(number):
        return inner.read(1).trials[number].lease_until - time.time()

    one, two = call(server, "/study/ask", {"n": 2, "lease": 3600})["trials"]
    report = {"token": one["token"], "value": 1}
    assert call(server, "/study/trials/0/report", {**report, "step": 1}) == {"stop": False}
    assert left(0) > 3000
    assert call(server, "/study/trials/1/renew", {"token": two["token"]}) == {"lease": 3600}
    server.use(inner)
    assert call(server, "/study/trials/0/report", {**report, "step": 2}) == {"stop": False}
    assert call(server, "/study/trials/1/renew", {"token": two["token"]})["lease"] > 3000
    assert min(left(0), left(1)) > 3000
    assert call(server, "/study/trials/1/renew", {"token": two["token"], "lease": 5}) == {"lease": 5}
    assert call(server, "/study/trials/1/renew", {"token": two["token"]}) == {"lease": 5}
    (three,) = call(server, "/study/ask", {})["trials"]
    assert call(server, "/study/trials/2/renew", {"token": three["token"]}) == {"lease": 60}


def test_asking_twice_under_one_key_is_asking_once(server, study):
    one, two = (
        send(server.port, "POST", "/v1/studies/study/ask", {}, headers={"Idempotency-Key": "ask-1"}) for _ in "ab"
    )
    assert one == two
    assert len(study.trials) == 1


def test_what_is_reported_of_several_objectives(server, storage):
    wt.Study({"x": (0.0, 1.0)}, direction={"a": "minimize", "b": "maximize"}, storage=storage, name="two")
    token = call(server, "/two/ask", {})["trials"][0]["token"]
    for wrong in ({"value": 1}, {"metrics": {"a": 1}}, {"metrics": {"value": 1}}):
        status, error = call(server, "/two/trials/0/report", {"token": token, "step": 1, **wrong})
        assert status == 422 and "objectives" in error["message"]
    body = {"token": token, "step": 1, "metrics": {"a": 1, "b": 2, "c": 3}}
    assert call(server, "/two/trials/0/report", body) == {"stop": False}


def test_pages_name_the_trials_that_are_gone(server, study, inner):
    (trial,) = inner.claim(1, "me", LEASE)
    page = call(server, "/study/trials")
    assert ([t["number"] for t in page["trials"]], page["dropped"]) == ([0], [])
    inner.release(1, 0, trial.token, drop=True)
    page = call(server, f"/study/trials?since={page['revision']}")
    assert (page["trials"], page["dropped"]) == ([], [0])
    assert call(server, f"/study/trials?since={page['revision']}")["dropped"] == []


def test_enqueue_stop_and_pages(server, study):
    assert call(server, "/study/enqueue", {"params": {"x": 1.0, "kind": "bad"}}) == {"numbers": [0]}
    assert call(server, "/study/enqueue", {"params": [{"x": float(i), "kind": "good"} for i in range(4)]}) == {
        "numbers": [1, 2, 3, 4]
    }
    for wrong in ({"x": 99.0, "kind": "bad"}, {"x": 1.0}, {"x": 1.0, "kind": "good", "z": 1}, "x", 3):
        assert call(server, "/study/enqueue", {"params": wrong})[0] == 422
    trial = call(server, "/study/ask", {})["trials"][0]
    assert (trial["number"], trial["params"]) == (0, {"x": 1.0, "kind": "bad"})
    page = call(server, "/study/trials?offset=1&limit=2")
    assert ([t["number"] for t in page["trials"]], page["total"]) == ([1, 2], 5)
    call(server, "/study/trials/0/tell", {"token": trial["token"], "value": 1})
    changed = call(server, f"/study/trials?since={page['revision']}")
    assert [t["number"] for t in changed["trials"]] == [0]
    assert call(server, f"/study/trials?since={changed['revision']}")["trials"] == []
    assert call(server, "/study/stop", {"reason": "enough"}) == {"stop_reason": "enough"}
    assert study.stop_reason == "enough"
    assert call(server, "/study/ask", {}) == (
        409,
        {"type": "StudyStopped", "message": "study 'study' was stopped: enough"},
    )
    assert call(server, "/study/stop", {"reason": None}) == {"stop_reason": None}
    assert call(server, "/study/ask", {})["trials"][0]["number"] == 1


def test_a_new_space_is_noticed(server, study):
    assert set(call(server, "/study/ask", {})["trials"][0]["params"]) == {"x", "kind"}
    study.space = {"x": (-5.0, 5.0), "y": (0.0, 1.0)}
    assert set(call(server, "/study/ask", {})["trials"][0]["params"]) == {"x", "y"}


def test_what_only_python_can_propose(server, storage):
    wt.Study({"x": (0.0, 1.0)}, storage=storage, name="open")
    wt.Study(storage=storage, name="bare")
    space = wt.Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, constraints=[lambda p: p["x"] < p["y"]])
    wt.Study(space, storage=storage, name="bound")
    wt.Study({"x": (0.0, 1.0)}, storage=storage, name="two words/ü".replace("/", " "))
    assert call(server, "/bare/ask", {})[0] == 422
    for act, body in (("ask", {}), ("enqueue", {"params": {"x": 0.9, "y": 0.1}})):
        status, error = call(server, f"/bound/{act}", body)
        assert status == 422 and f"{act} from Python" in error["message"]
    assert call(server, "/bound/trials")["total"] == 0
    assert call(server, "/two%20words%20%C3%BC/ask", {})["trials"][0]["number"] == 0
    storage.open(study_row("odd", spaces=({"parameters": {"x": {"type": "quantum"}}},)))
    assert call(server, "/odd")[0] == 422
    assert call(server, "/odd/ask", {})[0] == 422


def test_python_and_other_languages_side_by_side(server, study):
    asked = call(server, "/study/ask", {})["trials"][0]
    study.optimize(parabola, n_trials=6)
    assert (
        call(server, f"/study/trials/{asked['number']}/tell", {"token": asked["token"], "value": 0.0})["state"]
        == "complete"
    )
    assert len(study.trials) == 6 and study.best.number == asked["number"]


# the description


def test_every_operation_is_described(server):
    found = send(server.port, "GET", "/openapi.json", token=None)[1]
    assert found["openapi"].startswith("3.1")
    assert {(path, method.upper()) for path, item in found["paths"].items() for method in item} == {
        (o.path, o.method) for o in OPERATIONS
    }


@pytest.fixture(scope="module")
def described():
    """The description, and the application over a study with a few trials, as schemathesis sees them."""
    storage = MemoryStorage()
    study = wt.Study(SPACE, storage=storage, seed=0, sampler="random")
    study.optimize(parabola, n_trials=3)
    storage.update(1, attributes={"n_trials": 10_000}, clear_stop=True)
    app = make_app(storage, TOKEN, scheduler="median")
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    app.state.hub.close()


PROVED = ("not_a_server_error", "response_schema_conformance", "status_code_conformance", "content_type_conformance")


CASES = [
    pytest.param(operation, mode, id=f"{operation.path}-{mode.value}")
    for operation in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    # what takes nothing cannot be asked for wrongly
    if mode is GenerationMode.POSITIVE or operation.body is not None or operation.parameters
]


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_the_description_is_kept(described, operation, mode):
    """Whatever the description allows is answered as it says, whether the study exists or not; the rest is refused."""
    names = PROVED if mode is GenerationMode.POSITIVE else (*PROVED, "negative_data_rejection")
    checks = schemathesis.checks.CHECKS.get_by_names(names)

    @given(case=described[operation.path][operation.method].as_strategy(generation_mode=mode), known=st.booleans())
    @settings(max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(case, known):
        body = case.body if isinstance(case.body, dict) else {}
        if known and mode is GenerationMode.POSITIVE:
            if "name" in operation.parameters:
                case.path_parameters["name"] = "study"
            if "number" in operation.parameters:
                case.path_parameters["number"] %= 5
            if isinstance(body.get("study"), (int, float)):
                body["study"] = 1
                for identity in ("name", "created"):
                    body.pop(identity, None)
        if isinstance(body.get("wait"), (int, float)):
            body["wait"] = min(body["wait"], 0.1)
        response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        case.validate_response(response, checks=checks)

    holds()


# the command


def test_serve_says_how_it_is_used_and_ends_cleanly(tmp_path, monkeypatch):
    monkeypatch.setattr("welltuned.storage.http.POLL", 30.0)  # one request: the next would find no server
    with process(tmp_path / "study.db", 0) as running:
        url = address(running)
        assert url.startswith("http://127.0.0.1:")
        storage = HTTPStorage(url, TOKEN)
        study = storage.open(study_row()).id
        seen = storage.read(study).revision
        waiting = threading.Thread(target=storage.read, args=(study, seen), kwargs={"wait": 25.0})
        waiting.start()
        time.sleep(1.0)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert (running.returncode, time.monotonic() - began < 20) == (0, True)
        waiting.join()  # it was answered, not cut off
        storage.close()
    assert f"export WELLTUNED_TOKEN={TOKEN}" in running.printed and f'storage="{url}"' in running.printed
    assert err == ""


def test_serve_ends_cleanly_when_it_is_told_to(tmp_path):
    with process(tmp_path / "study.db", 0, "--host", "0.0.0.0") as running:
        address(running)
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "not encrypted" in err and TOKEN not in err
    assert f"http://{socket.gethostname()}:" in running.printed and "0.0.0.0" not in running.printed


def test_addresses_are_those_by_which_others_reach_the_server():
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening, "::") == f"http://{socket.gethostname()}:{port}"
        assert address_of(listening, "fe80::1") == f"http://[fe80::1]:{port}"
        assert address_of(listening, "localhost") == f"http://localhost:{port}"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (["--port", "{taken}"], wt.StorageError, "give another --host or --port"),
        (["--host", "no.such.host.invalid"], wt.InvalidValue, "no.such.host.invalid"),
        (["--token", "two words"], wt.InvalidValue, "printable ASCII"),
    ],
)
def test_serve_refuses_what_it_cannot_do(tmp_path, options, error, match):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [option.format(taken=taken.getsockname()[1]) for option in options]
        with pytest.raises(error, match=match):
            commands.main(["serve", str(tmp_path / "study.db"), *given], standalone_mode=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "HTTPS://:SECRET@127.0.0.1:1"])
def test_serve_does_not_serve_what_is_served(url):
    with pytest.raises(wt.StorageError, match="served already") as caught:
        commands.main(["serve", url, "--token", "x"], standalone_mode=False)
    assert "SECRET" not in str(caught.value)


def test_serve_does_not_print_a_password(monkeypatch, capsys):
    monkeypatch.setattr("welltuned.cli.serving.open_storage", lambda spec: MemoryStorage())
    monkeypatch.setattr("welltuned.server.running.run", lambda app, listening: listening.close())
    url = "postgresql://user:SEC/RET@database:5432/studies?password=SECRET"
    commands.main(["serve", url, "--port", "0", "--token", "x"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "serving postgresql://…@database:5432/studies?password=… at http://" in printed
    assert "RET" not in printed


def test_serve_makes_a_token_of_its_own(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "WELLTUNED_TOKEN"}
    command = [sys.executable, "-c", SERVE, "serve", str(tmp_path / "study.db"), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        url = address(running)
        token = re.search("export WELLTUNED_TOKEN=(.*)", running.printed)[1]
        assert len(token) >= 40
        storage = HTTPStorage(url, token)
        assert storage.studies() == []
        storage.close()
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_serve_says_what_is_missing(tmp_path, module):
    code = f"import sys; sys.modules[{module!r}] = None; from welltuned.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(tmp_path / "study.db")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{module!r}" in done.stderr and "welltuned[server]" in done.stderr and "Traceback" not in done.stderr


def test_the_client_needs_no_package():
    code = (
        "import sys, welltuned.storage.http; "
        "print(*{'starlette', 'uvicorn', 'httpx', 'requests', 'anyio'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_command_is_listed():
    assert "serve" in commands.commands
