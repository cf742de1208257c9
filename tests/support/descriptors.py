"""Source for programs that use up the file descriptors of their process and then call every public function there is.

`surface` finds the functions of an object. A parameter that it has no argument for is an error, so that a new function
is called too. `walk_without` calls them without a free descriptor, those that are to be awaited in a loop that runs
already, and `walk_again` with many; both say what each call raised.
"""

from __future__ import annotations

WALK = """
import inspect, resource

resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = []

def use_up():
    while True:
        try:
            held.append(os.dup(0))
        except OSError:
            return

def free():
    while held:
        os.close(held.pop())

ARGUMENTS = {
    "admissions": [{"scope": {"user": 1}, "payload": b"x"}],
    "command": ["PING"],
    "data": {"k": 1},
    "default": 1,
    "group": "workers",
    "key": "k",
    "key_prefix": "",
    "keys": ["k"],
    "limit": 5,
    "payload": b"x",
    "payloads": [b"x"],
    "period": 60,
    "scope": {"user": 1},
    "stream": "s",
    "value": 1,
    "version": 1,
}

class Call:
    def __init__(self, name, function, is_awaited, **arguments):
        self.name, self.function, self.is_awaited = name, function, is_awaited
        self.listed, self.named = [], {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.listed = arguments[parameter.name]
            elif parameter.name == "timeout":
                # What waits is not to wait for ever.
                self.named["timeout"] = 1
            elif parameter.kind is not parameter.VAR_KEYWORD and parameter.default is parameter.empty:
                assert parameter.name in arguments, f"{name} has the parameter {parameter.name}: give ARGUMENTS one"
                self.named[parameter.name] = arguments[parameter.name]

    # What it raised; a panic is no Exception.
    async def raised(self):
        try:
            result = self.function(*self.listed, **self.named)
            if self.is_awaited:
                await result
        except BaseException as error:
            return f"{type(error).__module__}.{type(error).__name__}: {error}"

def surface(owner, label, names=None, **arguments):
    names = names or [name for name in dir(owner) if not name.startswith("_")]
    functions = {name: getattr(owner, name) for name in names if callable(getattr(owner, name))}
    return [
        Call(f"{label}.{name}", function, name[0] == "a" and name[1:] in functions, **ARGUMENTS | arguments)
        for name, function in functions.items()
    ]

# Runs a coroutine that awaits nothing, where no loop runs.
def step(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value

def walk_without(calls, before):
    use_up()
    raised = {}
    for call in calls:
        if not call.is_awaited:
            before()
            raised[call.name] = step(call.raised())
    free()

    async def walk():
        use_up()
        for call in calls:
            if call.is_awaited:
                before()
                raised[call.name] = await call.raised()
        free()

    run(walk())
    return raised

# A connection that could not be made is not tried again at once.
def walk_again(calls, before):
    deadline = time.monotonic() + 30
    raised = {}

    async def walk():
        for call in calls:
            before()
            while (error := await call.raised()) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
                before()
            raised[call.name] = error

    run(walk())
    return raised
"""

REFUSED = "django_vcache.exceptions.ConnectionError: "


def refused(raised: dict[str, str | None]) -> set[str]:
    """The calls that got a ConnectionError. The others must have worked."""
    errors = {name: error for name, error in raised.items() if error is not None}
    others = {name: error for name, error in errors.items() if not error.startswith(REFUSED)}
    assert not others, others
    return set(errors)
