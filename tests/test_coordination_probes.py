"""The probes of coordination: what is measured is done, entirely and rightly, and no process is left behind."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from coordsim.calibration import coordination
from coordsim.calibration.coordination import codec, crossings, payload, processes, servers, storage, timers
from coordsim.calibration.probe import Case, Found, Probe
from coordsim.sim.profile.ops import OPS

MEASURED = ("encode", "decode", "cross", "spawn", "checkpoint", "timer", "fork_join", "co_run")


@pytest.fixture(scope="module")
def found() -> Found:
    """Return what can be measured here."""
    return coordination.probes()


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Whatever a test does, the processes it started end with it."""
    EARLIER.clear()
    EARLIER.update(children())  # pools of workers that other tests started live on
    yield
    assert not children()


EARLIER: set[int] = set()


def children() -> set[int]:
    """Return the processes that this one started in this test and that are still there."""
    return {child.pid for child in psutil.Process().children(recursive=True)} - EARLIER


def codec_named(name: str) -> codec.Codec:
    """Return a codec; skip where its package is missing."""
    load, package = codec.CODECS[name]
    try:
        return load()
    except ImportError:
        pytest.skip(f"{package} is not installed")


def equal(a: Any, b: Any) -> bool:
    """Return whether two objects are equal, tensors included."""
    if isinstance(a, dict):  # of tensors
        return bool(a.keys() == b.keys() and all((a[key] == b[key]).all() for key in a))
    return bool(a == b)


def test_every_law_is_one_of_the_operations(found: Found) -> None:
    """Operations, options and sizes are those that a profile knows; all of coordination but `hand_off` is measured."""
    for probe in found.probes:
        known = OPS[probe.op]
        assert set(probe.options) <= set(known.options)
        for case in probe.cases:
            assert (case.law, set(case.sizes)) == (probe.law, set(known.sizes))
    assert {probe.op for probe in found.probes} == set(MEASURED)


def test_no_law_and_no_case_stands_twice(found: Found) -> None:
    """Laws and cases have names of their own, missing laws too."""
    laws = [probe.law for probe in found.probes] + [missing.law for missing in found.missing]
    assert len(set(laws)) == len(laws)
    for probe in found.probes:
        assert len({case.name for case in probe.cases}) == len(probe.cases)


def test_a_law_of_bytes_spans_three_orders(found: Found) -> None:
    """Six sizes or more, the largest a thousand times the smallest."""
    for probe in found.probes:
        if probe.op in {"encode", "decode", "cross", "checkpoint"}:
            sizes = sorted(case.sizes["bytes"] for case in probe.cases)
            assert len(sizes) >= 6
            assert sizes[-1] > 900 * sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize("op", MEASURED)
def test_the_smallest_and_the_largest_case_can_be_called_again(op: str, found: Found) -> None:
    """Calls succeed with rising turns, and take time by their own measurement where they have one."""
    for probe in (probe for probe in found.probes if probe.op == op):
        for case in (probe.cases[0], probe.cases[-1]):
            with probe.prepare(case) as call:
                assert all(seconds is None or seconds > 0 for seconds in (call(0), call(1)))


def test_crossings_and_forks_are_paced_and_nothing_else(found: Found) -> None:
    """The caller rests before what wakes somebody up."""
    assert {probe.op for probe in found.probes if probe.pace > 0} == {"cross", "fork_join"}
    assert all(probe.pace > 0 for probe in found.probes if probe.op in {"cross", "fork_join"})


@pytest.mark.parametrize("name", codec.CODECS)
def test_what_is_decoded_is_what_was_encoded(name: str) -> None:
    """Every codec gives the object back."""
    chosen = codec_named(name)
    for size in (1_000, 64_000):
        value = chosen.make(size, 5)
        assert equal(chosen.decode(chosen.encode(value)), value)


@pytest.mark.parametrize("name", codec.CODECS)
def test_the_size_of_a_case_is_the_encoded_length_of_every_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte; and the copies differ."""
    chosen = codec_named(name)
    monkeypatch.setattr(codec, "CODECS", {name: codec.CODECS[name]})
    monkeypatch.setattr(codec, "SIZES", (1_000, 16_000, 256_000))
    for case, size in zip(codec.probes().probes[0].cases, codec.SIZES, strict=True):
        encoded = [chosen.encode(chosen.make(size, copy)) for copy in range(payload.copies(size))]
        assert {len(each) for each in encoded} == {int(case.sizes["bytes"])}
        assert len(set(encoded)) == len(encoded)


def test_a_state_is_near_the_size_asked() -> None:
    """Within a tenth in JSON, small and large."""
    chosen = codec_named("json")
    for size in (1_000, 64_000, 1_000_000):
        assert len(chosen.encode(payload.state(size, 0))) == pytest.approx(size, rel=0.1)


def test_a_codec_that_is_not_installed_is_missing_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its laws, each with the remedy."""

    def load() -> codec.Codec:
        raise ImportError("No module named 'orjson'")

    monkeypatch.setattr(codec, "CODECS", {"orjson": (load, "orjson")})
    missing = codec.probes().missing
    assert [each.law for each in missing] == ["encode[codec=orjson]", "decode[codec=orjson]"]
    assert all("`pip install orjson`" in each.why for each in missing)


@pytest.mark.parametrize("via", crossings.BOUNDARIES)
def test_the_other_side_sees_every_byte(via: str) -> None:
    """Messages of different sizes, one after another, are counted on arrival."""
    with crossings.BOUNDARIES[via]() as exchange:
        for size in (64, 1 << 20, 4097):
            seen, seconds = exchange(payload.message(size, 0))
            assert seen == size
            assert seconds > 0


def test_a_crossing_that_loses_bytes_is_an_error() -> None:
    """A call raises, with the case, rather than give the time of something else."""
    case = Case("cross", {"via": "call"}, {"bytes": 64.0})
    lossy = servers.Shared(lambda: nullcontext(lambda data: (len(data) - 1, 1e-6)))
    with crossings._crossing(lossy, nullcontext, case) as call, pytest.raises(RuntimeError, match=r"bytes=64.* saw 63"):
        call(0)


class FakeSpinners:
    """Says how many are busy."""

    def __init__(self) -> None:
        self.now = 0

    @contextmanager
    def busy(self, count: int) -> Iterator[None]:
        """Count."""
        self.now = count
        yield
        self.now = 0


def test_under_load_every_core_is_busy_while_the_message_crosses() -> None:
    """And none is between calls."""
    spinners, seen = FakeSpinners(), []

    def exchange(data: bytes) -> tuple[int, float]:
        seen.append(spinners.now)
        return len(data), 1e-6

    shared: Any = servers.Shared(lambda: nullcontext(spinners))
    case = Case("cross", {"via": "call", "load": "busy"}, {"bytes": 64.0})
    boundary: servers.Shared[crossings.Exchange] = servers.Shared(lambda: nullcontext(exchange))
    with crossings._crossing(boundary, partial(crossings._all_busy, shared), case) as call:
        call(0)
        assert spinners.now == 0
    assert seen == [servers.cores()]


def test_a_co_run_has_the_neighbours_of_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many processes are busy as the size says, for every piece of work."""
    spinners, seen = FakeSpinners(), []
    monkeypatch.setattr(processes, "work", lambda: seen.append(spinners.now))
    shared: Any = servers.Shared(lambda: nullcontext(spinners))
    with processes._co_running(shared, Case("co_run", {}, {"busy": 3.0})) as call:
        call(0)
    assert set(seen) == {3}
    assert spinners.now == 0


def test_spinners_are_busy_only_when_told() -> None:
    """They use CPU time inside, none after."""
    with servers.Spinners.open(1) as spinners:
        (child,) = (psutil.Process(pid) for pid in children())
        start, ends = cpu_seconds(child), time.monotonic() + 20
        with spinners.busy(1):
            while cpu_seconds(child) < start + 0.03 and time.monotonic() < ends:
                time.sleep(0.005)
        used = cpu_seconds(child)
        assert used >= start + 0.03
        time.sleep(0.1)
        assert cpu_seconds(child) == pytest.approx(used, abs=0.02)  # the clock's ticks are 0.01 s


def cpu_seconds(process: Any) -> float:
    """Return the CPU time a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("via", processes.FORKS)
@pytest.mark.parametrize("branches", [1, 5])
def test_all_branches_run_and_are_joined(via: str, branches: int) -> None:
    """Each fork counts the answers of its branches, again and again."""
    with processes.FORKS[via](branches) as run:
        assert [run()[0] for _ in range(3)] == [branches] * 3


def test_a_fork_that_loses_a_branch_is_an_error() -> None:
    """A call raises, with the case."""
    case = Case("fork_join", {"via": "threads"}, {"branches": 4.0})
    with (
        processes._forking(lambda branches: nullcontext(lambda: (branches - 1, 1e-6)), case) as call,
        pytest.raises(RuntimeError, match="branches=4: 3 branches ran"),
    ):
        call(0)


def test_a_program_that_cannot_start_is_an_error() -> None:
    """A spawn that fails is no quick spawn."""
    probe = processes._spawn("false", [sys.executable, "-S", "-c", "raise SystemExit(3)"])
    with probe.prepare(probe.cases[0]) as call, pytest.raises(subprocess.CalledProcessError):
        call(0)


def test_a_checkpoint_in_sqlite_is_there_for_another_reader(tmp_path: Path) -> None:
    """After each call a connection of its own reads the new state."""
    with storage.STORES["sqlite"](tmp_path) as save:
        for state in (b"first", b"second"):
            save(2, state)
            with sqlite3.connect(tmp_path / "checkpoints.sqlite") as reader:
                rows = reader.execute("SELECT number, state FROM checkpoint").fetchall()
            reader.close()
            assert rows == [(2, state)]


def test_a_checkpoint_in_a_file_replaces_the_old_one(tmp_path: Path) -> None:
    """After each call the file has the new state, and nothing else lies there."""
    with storage.STORES["file"](tmp_path) as save:
        for state in (b"first", b"second"):
            save(2, state)
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"2": state}


def test_a_timer_is_never_shorter_than_asked() -> None:
    """A sleep lasts what was asked, and then some."""
    for probe in timers.probes().probes:
        for case in probe.cases[:6]:
            with probe.prepare(case) as call:
                seconds = call(0)
                assert seconds is not None
                assert seconds >= case.sizes["seconds"] * (1 - 1e-6)  # two clocks may be steered apart by so much


def of_law(found: Found, law: str) -> Probe:
    """Return the probe of a law."""
    return next(probe for probe in found.probes if probe.law == law)


@pytest.mark.parametrize("law", ["cross[load=busy,via=pipe]", "cross[via=http]", "fork_join[via=processes]", "co_run"])
def test_peers_end_when_a_call_raises(law: str, found: Found) -> None:
    """No process is left after an error inside the context."""
    probe = of_law(found, law)

    def fail() -> None:
        with probe.prepare(probe.cases[-1]) as call:
            call(0)
            assert children()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not children()


def test_a_busy_peer_ends_when_its_context_is_left_by_an_error() -> None:
    """A process that spins notices that its input was closed."""

    def fail() -> None:
        with servers.peer("spin") as spinner:
            spinner.write(b"1")
            spinner.read(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not children()


def test_a_peer_that_does_not_end_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the patience is over."""
    script = tmp_path / "stubborn.py"
    script.write_text("import time\nprint(flush=True)\nwhile True: time.sleep(1)\n")
    monkeypatch.setattr(servers, "_SCRIPT", script)
    monkeypatch.setattr(servers, "_PATIENCE", 0.05)
    with servers.peer("spin"):
        assert len(children()) == 1
    assert not children()


def test_a_peer_that_died_says_so() -> None:
    """A crossing to nobody raises instead of waiting for ever."""
    with crossings.by_unix() as exchange:
        (child,) = (psutil.Process(pid) for pid in children())
        child.kill()
        child.wait(10)
        with pytest.raises((RuntimeError, OSError)):  # which one depends on how far the end of the connection has come
            exchange(payload.message(64, 0))


def test_a_peer_that_cannot_start_says_so() -> None:
    """An unknown kind ends at once, with its exit status in the message."""
    with pytest.raises(RuntimeError, match="`juggle` ended"), servers.peer("juggle"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("what", ["pipe", "tcp", "http", "spin"])
def test_a_peer_does_not_outlive_a_killed_program(what: str) -> None:
    """The program is killed, so nothing of it can clean up; the peer is gone soon."""
    program = (
        "import os, signal\n"
        "from coordsim.calibration.coordination.servers import Peer\n"
        f"peer = Peer({what!r}); peer.wait_until_ready()\n"
        "if peer._what == 'spin': peer.write(b'1'); peer.read(1)\n"
        "print(peer._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    pid, ends = int(ran.stdout), time.monotonic() + 20
    while runs(pid) and time.monotonic() < ends:
        time.sleep(0.01)
    assert not runs(pid)


def runs(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_shared_resource_is_opened_once_and_closed_with_its_last_user() -> None:
    """Two users see one; a later user sees a new one."""
    log: list[str] = []

    @contextmanager
    def resource() -> Iterator[int]:
        log.append("open")
        yield len(log)
        log.append("close")

    shared = servers.Shared(resource)
    with shared.use() as first:
        with shared.use() as second:
            assert first == second
        assert log == ["open"]
    with shared.use():
        pass
    assert log == ["open", "close", "open", "close"]


def test_preparing_leaves_no_file_behind(found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets and checkpoints lie in a temporary folder that is removed."""
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path))
    for law in ("checkpoint[store=sqlite]", "checkpoint[store=file]", "cross[via=unix]"):
        probe = of_law(found, law)
        with probe.prepare(probe.cases[0]) as call:
            call(0)
            assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
