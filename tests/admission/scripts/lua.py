"""The admission scripts on a server: their texts as the crate assembles them, their arguments and replies.

With `virtual_time` a piece that reads a key as the clock, and lets keys expire by it, takes the place of the one that
reads the server's clock, so that a test moves time as it likes. All else is the text that ships.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from model import STALE, Admission, Quota, Reply, Throttle, ThrottleState
from support.server import ValkeyServer

FOLDER = Path(__file__).parents[3] / "vcache/src/admission/lua"
TAG = "{v00}"
# Where virtual time begins: some moment in 2026, with a fraction of a millisecond.
START = 1_790_000_000_123_456
CLOCK = f"{TAG}:clock"
EXPIRIES = f"{TAG}:expiries"

# The scripts see this `redis` instead of the real one. SET with PX notes when the key would be gone.
_VIRTUAL_CLOCK = f"""
local real = redis
local clock = tonumber(real.call('GET', '{CLOCK}'))
local redis = {{error_reply = real.error_reply}}
function redis.call(name, ...)
  local key, value, option, keep = ...
  if name == 'SET' then
    assert(option == 'PX' and keep + 0 >= 1 and keep % 1 == 0, 'every key expires')
    real.call('HSET', '{EXPIRIES}', key, math.floor(clock / 1000) + keep)
    return real.call('SET', key, value)
  elseif name == 'PTTL' then
    local expiry = real.call('HGET', '{EXPIRIES}', key)
    return expiry and expiry - math.floor(clock / 1000) or -2
  end
  return real.call(name, ...)
end
"""

# Every key with its DUMP and whether it expires, the clock's own aside.
_SNAPSHOT = f"""
local found = {{}}
local keys = redis.call('KEYS', '*')
table.sort(keys)
for _, key in ipairs(keys) do
  if key ~= '{CLOCK}' then
    table.insert(found, {{key, redis.call('DUMP', key), redis.call('PTTL', key) > 0 and 1 or 0}})
  end
end
return found
"""


def piece(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


def assemble(name: str, clock: str | None = None) -> str:
    """A script's text, byte for byte as in vcache/src/admission/script.rs, unless `clock` stands in for the clock."""
    beginning = (clock or piece("clock")) + piece("gcra")
    if name == "admit":
        decide = "local function decide()\n" + piece("admit") + "end\n"
        return "#!lua\n" + beginning + decide + piece("pack")
    if name == "peek":
        return "#!lua flags=no-writes\n" + beginning + piece("peek")
    return "#!lua\n" + (clock or "") + piece("refund")


def admit_arguments(call: Admission) -> list[Any]:
    cost = "".join(f"{cost}," for cost in call.cost) if isinstance(call.cost, tuple) else call.cost
    args: list[Any] = [cost, len(call.throttles), len(call.quotas), int(call.stream is not None)]
    args += [call.dedupe.keep if call.dedupe else 0, call.receipt]
    for throttle in call.throttles:
        args += [throttle.limit, throttle.period, throttle.burst]
    for quota in call.quotas:
        args += [quota.limit, quota.start, quota.end, quota.mode, quota.keep]
    if call.stream:
        args += [call.stream.bound, int(call.stream.trims), len(call.fields), *call.fields]
    return args


def read_reply(call: Admission, packed: bytes) -> Reply:
    """Big-endian doubles, and unless both are empty an entry's id, a space and a receipt."""
    counters = 3 * len(call.throttles)
    states = counters + len(call.quotas) + (call.stream is not None)
    if packed[:8] == struct.pack(">d", STALE):
        states = 0
    size = 8 * (3 + states)
    doubles = struct.unpack(f">{3 + states}d", packed[:size])
    numbers = [int(double) for double in doubles]
    assert tuple(numbers) == doubles, "every number is a whole one"
    entry, receipt = "", ""
    if text := packed[size:].decode():
        entry, space, receipt = text.partition(" ")
        assert space
        assert entry or receipt
    verdict, rule, now, *rest = numbers
    throttles: tuple[ThrottleState, ...] = ()
    quotas: tuple[int, ...] = ()
    depth = None
    if rest:
        throttles = tuple(ThrottleState(*rest[at : at + 3]) for at in range(0, counters, 3))
        quotas = tuple(rest[counters : counters + len(call.quotas)])
        depth = rest[-1] if call.stream else None
    return Reply(verdict, rule, now, entry, receipt, throttles, quotas, depth)


class Scripts:
    """The scripts, loaded on a server."""

    def __init__(self, server: ValkeyServer, *, virtual_time: bool = False) -> None:
        self.server = server
        clock = _VIRTUAL_CLOCK if virtual_time else None
        self.texts = {name: assemble(name, clock) for name in ("admit", "peek", "refund")}
        self.shas = {name: self._load(text) for name, text in self.texts.items()}
        self._snapshot = self._load(_SNAPSHOT)

    def _load(self, text: str) -> str:
        sha = self.server.execute("SCRIPT", "LOAD", text)
        assert isinstance(sha, bytes)
        return sha.decode()

    def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        return self.server.execute("EVALSHA", self.shas[name], len(keys), *keys, *args)

    def admit(self, call: Admission) -> Reply:
        return read_reply(call, self.run("admit", call.keys, admit_arguments(call)))

    def peek(self, throttles: tuple[Throttle, ...] = (), quotas: tuple[Quota, ...] = ()) -> list[int]:
        args = [len(throttles), len(quotas)]
        for rule in throttles:
            args += [rule.limit, rule.period, rule.burst]
        return self.run("peek", [rule.key for rule in (*throttles, *quotas)], args)

    def refund(self, marker: str, keys: list[str], cost: int | list[int], keep: int = 1) -> list[int]:
        costs = [cost] * len(keys) if isinstance(cost, int) else cost
        return self.run("refund", [marker, *keys], [keep, *costs])

    def snapshot(self) -> list[Any]:
        """Every key byte for byte, and whether it expires."""
        found = self.server.execute("EVALSHA", self._snapshot, 0)
        assert isinstance(found, list)
        return found

    def move_clock(self, now: int) -> None:
        """Virtual time only: set the clock to `now` microseconds, and drop what has expired by then."""
        self.server.execute("SET", CLOCK, now)
        found = self.server.execute("HGETALL", EXPIRIES)
        assert isinstance(found, list)
        for key, expiry in zip(found[::2], found[1::2], strict=True):
            if now // 1000 > int(expiry):
                self.server.execute("DEL", key)
                self.server.execute("HDEL", EXPIRIES, key)
