"""A guest that is built with the feature `admission`: the gate in it decides over the wheel's connection, and what it
knows of refusals and outages is its own process's.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.monitor import Monitor
from support.programs import Program, run_program
from support.server import ValkeyServer


@pytest.fixture(autouse=True)
def _admitting(programs_import: Callable[[str], None]) -> None:
    programs_import("admission")


EXACT = """
import probe_guest

async def task():
    return [(await probe_guest.aadmit(1, b"x"))[0] for _ in range(5)]

async def crowd():
    return await asyncio.gather(*(task() for _ in range(4)))

seen = []
in_threads(4, lambda _: seen.extend(probe_guest.admit(1, b"x")[0] for _ in range(3)))
for told in run(crowd()):
    seen.extend(told)
report([sum(seen), len(seen)])
receipt = probe_guest.admit(2, b"y", 3, "id")[3]
again = probe_guest.admit(2, b"y", 3, "id")
report([again[1], again[3] == receipt, probe_guest.refund(receipt), probe_guest.refund(receipt)])
report(probe_guest.admit(1)[2])
try:
    probe_guest.refund("no receipt")
except ValueError as error:
    report(str(error))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_gate_in_a_guest_admits_exactly_what_it_should(fresh_server: ValkeyServer, loop: str) -> None:
    admitted, repeated, source, error = run_program(EXACT, {"default": cache_setting(fresh_server)}, loop)
    assert admitted == [20, 32], "the quota is 20"
    assert repeated == [True, True, True, False], "a duplicate, with the first one's receipt, refunded once"
    assert source == "deny_cache", "the refusal of a moment ago still holds"
    assert "'no receipt'" in error or '"no receipt"' in error
    streams = fresh_server.keys("*:s:*")
    assert sum(fresh_server.execute("XLEN", key) for key in streams) == 21
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2, "the wheel's, and the test's"


ONE_BY_ONE = """
import probe_guest

async def awaited(number):
    return await probe_guest.aadmit(3, b"x", 1, f"id-{number}")

async def crowd():
    return await asyncio.gather(*(probe_guest.aadmit(org, b"x") for org in range(100, 110)))

def tell(told):
    report([told[0], told[2]])
    wait_for_word()

# The first one loads the script.
tell(probe_guest.admit(1, b"x"))
for number in range(3):
    tell(probe_guest.admit(2, b"x", 1, f"id-{number}"))
# A duplicate.
tell(probe_guest.admit(2, b"x", 1, "id-0"))
for number in range(3):
    tell(run(awaited(number)))
told = run(crowd())
report([all(each[0] for each in told), told[0][2]])
wait_for_word()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_gate_in_a_hot_path_is_one_round_trip(fresh_server: ValkeyServer, loop: str) -> None:
    """After the first admission the server is sent one EVALSHA for each, and nothing besides."""
    with (
        Program(ONE_BY_ONE, {"default": cache_setting(fresh_server)}, loop) as program,
        Monitor(fresh_server) as monitor,
    ):
        assert program.report() == [True, "server"]
        monitor.sent()
        for _ in range(7):
            program.tell()
            assert program.report() == [True, "server"]
            assert monitor.sent() == ["EVALSHA"]
        program.tell()
        assert program.report() == [True, "server"]
        assert monitor.sent() == ["EVALSHA"] * 10
        program.tell()
        program.end()


OUTAGE = """
import probe_guest

async def awaited():
    return await probe_guest.aadmit(1)

report(probe_guest.admit(1))
wait_for_word()
report([probe_guest.admit(1)[:3], run(awaited())[:3], probe_guest.admit(1, b"x")[:3]])
wait_for_word()
while probe_guest.admit(1)[2] != "server":
    time.sleep(0.02)
report("back")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_is_gone_is_an_outage_until_it_is_back(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(OUTAGE, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report()[2] == "server"
        fresh_server.kill()
        program.tell()
        open_, awaited, stored = program.report()
        assert open_ == awaited == [True, False, "outage"]
        assert stored == [False, False, "outage"], "what is not stored is not admitted"
        fresh_server.restart()
        program.tell()
        assert program.report() == "back"
        program.end()


FORKED = """
import warnings
# Forking with threads is what is tested here.
warnings.simplefilter("ignore", DeprecationWarning)
import probe_guest

stop = threading.Event()

def load():
    while not stop.is_set():
        for org in range(50):
            probe_guest.admit(org)

threads = [threading.Thread(target=load) for _ in range(3)]
for each in threads:
    each.start()
while probe_guest.admit(0)[2] != "deny_cache":
    pass
codes, receipts = [], []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        # Locks that a thread of the parent's held are not waited for, and what it remembered is asked anew.
        asked = probe_guest.admit(0)[2]
        held = [probe_guest.admit(org)[0] for org in range(50)]
        nonce = probe_guest.admit(1000 + os.getpid())[3].split(".")[0]
        report([asked, nonce])
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
nonces = [probe_guest.admit(999)[3].split(".")[0] for _ in range(20)]
stop.set()
for each in threads:
    each.join()
report([codes, nonces])
"""


def test_a_forked_child_knows_nothing_and_waits_for_nobody(fresh_server: ValkeyServer) -> None:
    *children, (codes, nonces) = run_program(FORKED, {"default": cache_setting(fresh_server)})
    assert codes == [0] * 10
    assert [asked for asked, _ in children] == ["server"] * 10
    told = nonces + [nonce for _, nonce in children]
    assert len(set(told)) == 30, "no two receipts are alike"
