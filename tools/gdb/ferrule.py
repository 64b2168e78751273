"""Reactors, tasks and connections of a stopped process, or of a core, in gdb:

    gdb -p PID -x ferrule.py -ex 'ferrule tasks' -ex detach -ex quit
    gdb -x ferrule.py PROGRAM CORE

    ferrule reactors       the reactors that run, and what each is doing
    ferrule tasks          the tasks, each with what it awaits, down to what it waits for
    ferrule connections    the connections, and who waits for each

It needs the symbols of the program, but no debug information: the library tells where things are in a list of its own
(src/reactor/debug_layout.hpp), and coroutines are named by the symbols of their bodies. A build with FERRULE_LIVE_TASKS
has all its tasks in a list. In others the tasks are found that wait for an operation, a timer or a connection, or that
are about to run, with those that await them; who waits for something else, such as an event of another task, is not.
"""

import re
import struct

import gdb

MARK = b"ferrule reactor:"  # on the stack of a thread that is in Reactor::run; the reactor's address follows
STACK_BYTES_MAX = 64 << 20
PAGE_BYTES = 4096
NAME_BYTES_MAX = 256
TAGS = 7  # PromiseBase: the low bits of a continuation that is told instead of resumed
OBSERVED, DETACHED = 1, 2
PROMISE_OFFSET = 16  # behind the two functions of a frame, for GCC and clang
CHAIN_MAX = 1000
SLOT_STATES = ("free", "waiting", "finished", "queued")
STAGES = ("open", "flushing", "lingering", "cancelling", "closing", "closed")


class Missing(Exception):
    """What is looked for is not in this process; the text says what."""


def read(address, size):
    return gdb.selected_inferior().read_memory(address, size).tobytes()


def number(address, size=8):
    return int.from_bytes(read(address, size), "little")


def text_at(address):
    text = b""
    while address and b"\0" not in text and len(text) < NAME_BYTES_MAX:
        text += read(address + len(text), 1)
    return text.split(b"\0")[0].decode(errors="replace")


def symbol_address(name):
    try:
        return int(gdb.parse_and_eval(f"(unsigned long)&'{name}'"))
    except gdb.error:
        return None


def layout(name):
    """A list of places by name: DebugLayout."""
    address = symbol_address(f"ferrule::v0::detail::DebugLayout::{name}")
    if address is None:
        return None
    entry = struct.Struct("<40sQ")
    places = {}
    while True:
        place, value = entry.unpack(read(address, entry.size))
        place = place.split(b"\0")[0].decode()
        if not place:
            return places
        places[place] = value
        address += entry.size


def vector(address):
    """Begin and end of a std::vector."""
    return number(address), number(address + 8)


def pointers(address):
    begin, end = vector(address)
    return [number(at) for at in range(begin, end, 8)]


# ---- names ----

_names = {}


def symbol_of(address):
    """The symbol at the address as the linker knows it, or None."""
    former = gdb.parameter("print demangle")
    gdb.execute("set print demangle off")
    try:
        text = gdb.execute(f"info symbol {address:#x}", to_string=True)
    finally:
        gdb.execute(f"set print demangle {'on' if former else 'off'}")
    if text.startswith("No symbol"):
        return None
    return re.sub(r"( \+ \d+)? in section .*", "", text.strip(), flags=re.DOTALL)


def demangle(symbol):
    try:
        return gdb.execute(f"demangle -l c++ -- {symbol}", to_string=True).strip()
    except gdb.error:
        return symbol


def coroutine_name(symbol):
    """The coroutine whose body the symbol is; None for anything else. GCC calls the body of a coroutine `.actor`, and its frame by the
    coroutine's mangled name, whose length is in front of it; clang calls it by that name and `.resume`."""
    clone = re.search(r"\.(actor|resume|destroy|cleanup)(\.|$)", symbol)
    if clone is None:
        return None
    end = symbol.find(".Frame.")
    if end >= 0:
        frame_end = end + len(".Frame")
        for found in re.finditer("_Z", symbol[:end]):
            digits = re.search(r"\d+$", symbol[: found.start()])
            if digits and any(int(digits[0][skip:]) == frame_end - found.start() for skip in range(len(digits[0]))):
                return demangle(symbol[found.start() : end])
    return demangle(symbol[: clone.start()])


def name_of(frame):
    """The name of the coroutine that has the frame; None when it is no frame."""
    try:
        resume = number(frame)
    except gdb.MemoryError:
        return None
    if resume not in _names:
        symbol = symbol_of(resume) if resume else None
        name = coroutine_name(symbol) if symbol else None
        _names[resume] = name.replace("ferrule::v0::", "ferrule::") if name else None
    return _names[resume]


# ---- reactors ----


def stack_words(thread):
    """The address of each mark on the thread's stack."""
    thread.switch()
    at = int(gdb.parse_and_eval("(unsigned long)$sp"))
    end = at + STACK_BYTES_MAX
    while at < end:
        size = PAGE_BYTES - at % PAGE_BYTES
        try:
            # The mark and the pointer may cross a page's end: a little more, where there is more.
            memory = read(at, size + 24)
        except gdb.MemoryError:
            try:
                memory = read(at, size)
            except gdb.MemoryError:
                return
        for found in re.finditer(re.escape(MARK), memory):
            if found.start() < size and found.start() + 24 <= len(memory):
                yield int.from_bytes(memory[found.start() + 16 : found.start() + 24], "little")
        at += size


class Reactor:
    def __init__(self, address, thread, places, network_places):
        self.address, self.thread, self.places, self.network_places = address, thread, places, network_places
        self.id = number(address + places["Reactor.id"], 4)

    def at(self, name):
        return self.address + self.places[name]

    def operations(self):
        """(name, state, frame of who waits) of each operation."""
        size, count = self.places["sizeof(OperationSlot)"], self.places["Reactor.slots_per_chunk"]
        for chunk in pointers(self.at("Reactor.slots")):
            for slot in range(chunk, chunk + size * count, size):
                state = number(slot + self.places["OperationSlot.state"], 1)
                if state == 0 or state >= len(SLOT_STATES):
                    continue
                name = text_at(number(slot + self.places["OperationSlot.name"]))
                yield name, SLOT_STATES[state], number(slot + self.places["OperationSlot.waiter"])

    def ready(self):
        return [frame for frame in pointers(self.at("Reactor.ready")) if frame]

    def network(self):
        table = symbol_address("vtable for ferrule::v0::Network")
        if table is None or self.network_places is None:
            return None
        # Behind the offset to the top and the type.
        return next((at for at in pointers(self.at("Reactor.subsystems")) if number(at) == table + 16), None)

    def connections(self):
        network, places = self.network(), self.network_places
        if network is None:
            return
        size, count = places["sizeof(ConnectionState)"], places["Network.states_per_chunk"]
        for chunk in pointers(network + places["Network.states"]):
            for state in range(chunk, chunk + size * count, size):
                if number(state + places["ConnectionState.descriptor"], 4) < 1 << 31:
                    yield Connection(state, places)


class Connection:
    def __init__(self, address, places):
        def value(name, bytes_):
            return number(address + places[f"ConnectionState.{name}"], bytes_)

        self.index, self.generation = value("index", 4), value("generation", 4)
        self.descriptor = value("descriptor", 4)
        self.reader, self.flusher = value("reader", 8), value("flusher", 8)
        self.held, self.received_bytes = value("held", 4), value("received_bytes", 4)
        stage = value("stage", 1) >> 4 & 7
        self.stage = STAGES[stage] if stage < len(STAGES) else f"stage {stage}"

    def title(self):
        return f"connection {self.index} (descriptor {self.descriptor})"


def reactors():
    places, network_places = layout("reactor"), layout("network")
    if places is None:
        raise Missing("the program has no symbols of Ferrule: it is stripped, or does not use it")
    selected = gdb.selected_thread()
    if selected is None:
        raise Missing("there is no process: attach to one, or load a core")
    found = []
    try:
        for thread in sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num):
            for address in stack_words(thread):
                if address not in [reactor.address for reactor in found]:
                    found.append(Reactor(address, thread, places, network_places))
    finally:
        selected.switch()
    if not found:
        raise Missing("no thread is in Reactor::run")
    return sorted(found, key=lambda reactor: reactor.id)


# ---- tasks ----


def waiters(reactor):
    """(frame, what it waits for) of the coroutines that are found without a list."""
    for name, state, frame in reactor.operations():
        if frame:
            yield frame, f"operation '{name}'" if state == "waiting" else f"operation '{name}', which has ended: about to run"
    for connection in reactor.connections():
        if connection.reader:
            yield connection.reader, f"a read of {connection.title()}"
        if connection.flusher:
            yield connection.flusher, f"a flush of {connection.title()}"
    for frame in reactor.ready():
        yield frame, "its turn: about to run"


class Task:
    def __init__(self, frame, name, place=""):
        self.frame, self.name, self.place = frame, name, place
        self.awaits, self.waits_for, self.parent, self.remark = [], [], None, ""


def continuation_of(frame, places):
    return number(frame + PROMISE_OFFSET + places["PromiseBase.continuation"])


def listed(reactor):
    """The tasks of the list of a build that has one, by frame."""
    places, tasks, sizes = reactor.places, {}, {}
    link = number(reactor.at("Reactor.live_tasks"))
    while link:
        frame = number(link + places["LiveTaskLink.frame"])
        function = number(link + places["LiveTaskLink.function"])  # std::source_location: a pointer to file, function, line
        place = ""
        if function:
            place = f"{text_at(number(function)).rsplit('/', 1)[-1]}:{number(function + 16, 4)}"
        tasks[frame] = Task(frame, name_of(frame) or "?", place)
        sizes[frame] = number(link + places["LiveTaskLink.frame_bytes"])
        link = number(link + places["LiveTaskLink.next"])
    for frame, task in tasks.items():
        pointer = continuation_of(frame, places) & ~TAGS
        holder = next((other for other in tasks if pointer == other or 0 <= pointer - other < sizes[other]), None)
        task.parent = tasks.get(holder) if holder != frame else None
    return tasks


def found(reactor):
    """The tasks that wait, and those that await them, by frame."""
    tasks = {}
    for frame, _ in waiters(reactor):
        below = None
        for _ in range(CHAIN_MAX):
            known = frame in tasks
            if not known:
                name = name_of(frame)
                if name is None:
                    break
                tasks[frame] = Task(frame, name)
            if below is not None:
                below.parent = tasks[frame]
            if known:
                break
            below = tasks[frame]
            bits = continuation_of(frame, reactor.places)
            if bits & OBSERVED:
                below.remark = " (of a when_all or when_any)"
            if bits & TAGS or not bits:
                break
            frame = bits
    return tasks


def tasks_of(reactor):
    tasks = listed(reactor) if "Reactor.live_tasks" in reactor.places else found(reactor)
    for frame, what in waiters(reactor):
        if frame in tasks:
            tasks[frame].waits_for.append(what)
    for task in tasks.values():
        if task.parent is not None:
            task.parent.awaits.append(task)
    return tasks


def write_task(root):
    stack = [(root, 1)]
    while stack:
        task, depth = stack.pop()
        place = f" ({task.place})" if task.place else ""
        print(f"{'  ' * depth}{task.name}{place}{task.remark}, frame {task.frame:#x}")
        for what in task.waits_for:
            print(f"{'  ' * (depth + 1)}waits for {what}")
        stack += [(awaited, depth + 1) for awaited in reversed(task.awaits)]


# ---- commands ----


class Command(gdb.Command):
    """A command below `ferrule`, which says what is missing instead of failing."""

    def __init__(self, name, document):
        self.__doc__ = document
        super().__init__(f"ferrule {name}", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        try:
            for reactor in reactors():
                self.show(reactor)
        except Missing as error:
            raise gdb.GdbError(str(error)) from None


class Reactors(Command):
    def show(self, reactor):
        operations, connections = list(reactor.operations()), list(reactor.connections())
        active = number(reactor.at("Reactor.active_since_ns"))
        doing = f"at work since {active / 1e9:.6f} s" if active else "waits in the kernel"
        draining = ", draining" if number(reactor.at("Reactor.draining"), 1) else ""
        thread = number(reactor.at("Reactor.thread"))
        print(
            f"reactor {reactor.id}: thread {thread} (gdb's {reactor.thread.num}), {doing}{draining}; {len(operations)} operations, "
            f"{len(reactor.ready())} ready, {len(connections)} connections; at {reactor.address:#x}"
        )
        for name, state, frame in operations:
            who = name_of(frame) if frame else None
            print(f"  operation '{name}': {state}{f', for {who}' if who else ''}")


class Tasks(Command):
    def show(self, reactor):
        tasks = tasks_of(reactor)
        where = "in the list" if "Reactor.live_tasks" in reactor.places else "found"
        print(f"reactor {reactor.id}: {len(tasks)} tasks {where}")
        for task in tasks.values():
            if task.parent is None:
                write_task(task)


class Connections(Command):
    def show(self, reactor):
        connections = list(reactor.connections())
        print(f"reactor {reactor.id}: {len(connections)} connections")
        for connection in connections:
            line = f"  {connection.title()}, {connection.stage}"
            if connection.held:
                line += f", holds {connection.received_bytes} received bytes in {connection.held} slices"
            if connection.reader:
                line += f", read by {name_of(connection.reader) or '?'}"
            if connection.flusher:
                line += f", flushed by {name_of(connection.flusher) or '?'}"
            print(line)


class Prefix(gdb.Command):
    """Reactors, tasks and connections of Ferrule: `ferrule reactors`, `ferrule tasks`, `ferrule connections`."""

    def __init__(self):
        super().__init__("ferrule", gdb.COMMAND_STATUS, prefix=True)


Prefix()
Reactors("reactors", "The reactors that run, and what each is doing.")
Tasks("tasks", "The tasks, each with what it awaits, down to what it waits for.")
Connections("connections", "The connections, and who waits for each.")
