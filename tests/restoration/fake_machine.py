"""A CPU device that behaves like a difficult GPU: transfers happen at the last moment, or too soon.

A late transfer reads its source only when somebody waits for it. Who fills a buffer again too early, or looks at a
result too early, therefore gets wrong values. An early one waits for nothing but what it was told to wait for.
"""

import weakref
from contextlib import contextmanager

import torch

from napari_restore_rwkv.restoration.machine import Machine

NAMES = ("upload", "compute", "download")


class FakeStream:
    """Does its work as late as possible."""

    def __init__(self, name):
        self.name, self.work, self.done = name, [], 0

    def wait_stream(self, other):
        upto = len(other.work)
        self.work.append(lambda: other.come_to(upto))

    def record_event(self):
        return FakeEvent(self, len(self.work))

    def come_to(self, upto):
        while self.done < upto:
            job, self.work[self.done] = self.work[self.done], None
            self.done += 1
            job()


class FakeEvent:
    def __init__(self, stream, place):
        self.stream, self.place = stream, place

    def synchronize(self):
        self.stream.come_to(self.place)
        self.stream.machine.log.append("arrived")


class FakeMachine(Machine):
    """A GPU with so much free memory, of which one slice takes so much.

    Attributes
    ----------
    log
        What was asked for, in order: "upload 3" when it is queued, "computing", "arrived", "recorded", "replayed",
        "settled", "given back".
    hosts
        Weak references to all buffers of the processor that there ever were.
    """

    in_flight = 2
    can_record = True

    def __init__(self, free=0, per_slice=1 << 62, early=False, fails_to_record=None):
        super().__init__(torch.device("cpu"))
        self.log, self.streams, self.hosts, self.made_at = [], [], [], {}
        self.free, self.per_slice, self.early, self.fails_to_record = free, per_slice, early, fails_to_record

    def host_buffer(self, shape):
        buffer = torch.full(shape, torch.nan)
        self.hosts.append(weakref.ref(buffer))
        return buffer

    def device_buffer(self, shape):
        buffer = torch.full(shape, torch.nan)
        # The memory may be that of a map which the network still reads at this point of its stream.
        self.made_at[buffer.data_ptr()] = len(self.streams[1].work)
        return buffer

    def stream(self):
        stream = FakeStream(NAMES[len(self.streams)])
        stream.machine = self
        self.streams.append(stream)
        return stream

    @contextmanager
    def computing(self, stream):
        assert stream is self.streams[1], "the network has a stream of its own"
        if not self.early:
            stream.come_to(len(stream.work))
        self.log.append("computing")
        yield
        # What the network does now is there for those only who wait for this stream to come so far.
        stream.work.append(lambda: None)

    def copy(self, target, source, stream):
        compute = self.streams[1]
        issued = len(compute.work) if stream.name == "download" else self.made_at[target.data_ptr()]

        def transfer():
            assert compute.done >= issued, f"{stream.name} before the network has come so far"
            target.copy_(source)

        stream.work.append(transfer)
        self.log.append(f"{stream.name} {len(source)}")
        if self.early and stream.name == "upload":
            stream.come_to(len(stream.work))

    def record(self, run, stream):
        self.log.append("recorded")
        if self.fails_to_record:
            raise self.fails_to_record
        result = run()

        def replay():
            self.log.append("replayed")
            result.copy_(run())

        return replay, result

    def free_memory(self):
        return self.free

    def peak_memory(self):
        return self.per_slice

    def settle(self):
        for stream in self.streams:
            stream.come_to(len(stream.work))
        self.log.append("settled")

    def give_back(self):
        self.log.append("given back")

    def brief(self):
        """The log without the single steps of the network."""
        return [entry for entry in self.log if entry != "computing"]
