"""Batches in flight: order is kept, nothing is lost when memory runs short, and all memory is freed."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from fake_machine import FakeMachine
from hungry_networks import Triple, hungry_network, images, run_all
from torch import nn

from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.network.bi_wkv import KernelStatus
from napari_restore_rwkv.restoration import executor as executor_module
from napari_restore_rwkv.restoration.cuda_graph import CudaGraph
from napari_restore_rwkv.restoration.executor import Executor
from napari_restore_rwkv.restoration.machine import Machine


@pytest.mark.parametrize("count", [1, 2, 4, 10, 23])
@pytest.mark.parametrize("fitting", [1, 3, 4])
@pytest.mark.parametrize("early", [False, True])
def test_every_image_gets_its_own_result_whenever_transfers_happen(count, fitting, early):
    with Executor(Triple(), FakeMachine(free=10 * fitting, per_slice=8, early=early)) as executor:
        results, _ = run_all(executor, images(count))
    np.testing.assert_array_equal(results, 3 * np.stack(images(count)))


def test_the_next_batch_is_sent_and_computed_while_the_last_is_under_way():
    machine = FakeMachine(free=10 * 3, per_slice=8)
    with Executor(Triple(), machine) as executor:
        run_all(executor, images(10))
    assert machine.brief() == [
        # One slice, to be seen at once.
        *("upload 1", "download 1", "arrived"),
        *("upload 3", "download 3", "upload 3", "download 3", "arrived"),
        *("upload 3", "download 3", "arrived", "arrived"),
        *("settled", "given back"),
    ]


def test_a_slot_is_not_filled_again_before_its_results_have_left_it():
    machine = FakeMachine(free=10 * 2, per_slice=8)
    with Executor(Triple(), machine) as executor:
        run_all(executor, images(9))
    uploads = [at for at, entry in enumerate(machine.log) if entry.startswith("upload")]
    for behind, at in enumerate(uploads):
        assert machine.log[:at].count("arrived") >= behind - 1
    # Two slots with a buffer for each direction, made for one image and once more for two.
    assert len(machine.hosts) <= 2 * 2 * 2


def test_a_batch_is_what_fits_into_four_fifths_of_the_free_memory():
    with Executor(Triple(), FakeMachine(free=100, per_slice=8)) as executor:
        assert executor.batch == 1
        run_all(executor, images(1))
        assert executor.batch == 10


def test_a_batch_is_no_larger_than_requested():
    network = Triple()
    with Executor(network, FakeMachine(free=100, per_slice=8), most=4) as executor:
        run_all(executor, images(9))
    assert network.tried == [1, 4, 4]


@pytest.mark.parametrize("most", [None, 2])
def test_a_cpu_takes_one_image_after_the_other(most):
    network = Triple()
    with Executor(network, Machine(torch.device("cpu")), most) as executor:
        results, _ = run_all(executor, images(4))
    np.testing.assert_array_equal(results, 3 * np.stack(images(4)))
    assert network.tried == [1, 1, 1, 1]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_batches_are_halved_until_they_fit_and_no_image_is_lost(error):
    network, machine = Triple(fits=2, error=error), FakeMachine(free=100, per_slice=8)
    with Executor(network, machine) as executor:
        results, notes = run_all(executor, images(24))
        report = executor.report()
    np.testing.assert_array_equal(results, 3 * np.stack(images(24)))
    # What did not fit is not tried again.
    assert network.tried == [1, 10, 5, *[2] * 11, 1]
    assert notes == ["memory is short: 5 slices at a time", "memory is short: 2 slices at a time"]
    assert report["notes"] == notes
    assert report["slices_at_once"] == 2


def test_a_failed_batch_leaves_its_buffers_before_they_are_reused():
    machine = FakeMachine(free=100, per_slice=8)
    with Executor(Triple(fits=2), machine, most=4) as executor:
        run_all(executor, images(5))
    assert machine.brief()[3:7] == ["upload 4", "settled", "given back", "upload 2"]


def test_a_batch_that_is_still_under_way_survives_a_lack_of_memory():
    network, machine = Triple(fits=4), FakeMachine(free=100, per_slice=8)
    with Executor(network, machine, most=4) as executor:
        run_all(executor, images(1))
        list(executor.submit(images(4)))
        network.fits = 1
        list(executor.submit([image + 100 for image in images(4)]))
        results = []
        while len(results) < 8:
            results.extend(executor.collect())
    np.testing.assert_array_equal(results, 3 * np.stack([*images(4), *(image + 100 for image in images(4))]))


def test_a_failed_batch_holds_no_memory_when_it_is_retried():
    held = []

    class Leaky(nn.Module):
        def forward(self, x):
            assert not any(reference() is not None for reference in held), "the maps of the last attempt still exist"
            maps = torch.zeros(8)
            held.append(weakref.ref(maps))
            if len(x) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return x + maps[0]

    with Executor(Leaky(), FakeMachine(free=100, per_slice=8)) as executor:
        run_all(executor, images(9))
    assert len(held) > 3


def test_a_slice_that_does_not_fit_is_computed_in_strips_identically():
    whole, strips = hungry_network(), hungry_network(only_in_strips=True)
    strips.load_state_dict(whole.state_dict())
    machine = FakeMachine(free=1 << 40, per_slice=8)
    with Executor(whole, Machine(torch.device("cpu"))) as executor:
        expected, _ = run_all(executor, images(5, (21, 26)))
    with Executor(strips, machine) as executor:
        results, notes = run_all(executor, images(5, (21, 26)))
        report = executor.report()
    np.testing.assert_array_equal(results, expected)
    assert notes == ["memory is short: one slice at a time, in strips of rows"]
    assert report["in_strips"]
    assert report["slices_at_once"] == 1
    assert "recorded" not in machine.log


def test_a_batch_shrinks_step_by_step_down_to_strips():
    network = hungry_network()
    expected = [network(torch.from_numpy(image)[None, None])[0, 0].numpy() for image in images(6, (9, 10))]
    machine = FakeMachine(free=1 << 40, per_slice=8)
    with Executor(network, machine, most=4) as executor:
        first, _ = run_all(executor, images(1, (9, 10)))
        network.fits, network.only_in_strips = 1, True
        rest, notes = run_all(executor, images(6, (9, 10))[1:])
    np.testing.assert_allclose(first + rest, expected, atol=1e-5)
    assert [note.split(": ")[1] for note in notes] == [
        "2 slices at a time",
        "1 slice at a time",
        "one slice at a time, in strips of rows",
    ]


def test_a_slice_that_cannot_fit_is_refused_in_one_sentence():
    machine = FakeMachine()
    words = (
        r"not enough memory on cpu for a slice of 400 x 500, which takes about 0\.04 GB even in strips of rows; close "
        r"other programs, or use the light network, a smaller slice, or --tile on the command line\.$"
    )
    with pytest.raises(DeviceError, match=words) as raised, Executor(hungry_network(fits=0), machine) as executor:
        run_all(executor, images(1, (400, 500)))
    assert machine.log[-2:] == ["settled", "given back"]
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert raised.value.__cause__.__traceback__ is None, "it would hold the maps that were too large"


def test_another_error_is_passed_on_and_all_memory_is_freed():
    machine = FakeMachine()
    network = Triple(fits=0, error=lambda _: RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"), Executor(network, machine) as executor:
        run_all(executor, images(1))
    assert machine.log[-2:] == ["settled", "given back"]


@pytest.mark.slow
def test_buffers_are_freed_after_the_transfers_and_before_memory_is_returned():
    def buffers_left(self):
        gc.collect()
        left.append(sum(buffer() is not None for buffer in self.hosts))

    left = []
    machine = type("Watched", (FakeMachine,), {"settle": buffers_left, "give_back": buffers_left})(100, 8)
    with Executor(Triple(), machine, most=2) as executor:
        run_all(executor, images(8))
        list(executor.submit(images(2)))
        for stream in machine.streams:
            stream.come_to(len(stream.work))
    assert left[0] > 0
    assert left[1] == 0


def recorded_run(machine, count=14, **options):
    network = hungry_network()
    with Executor(network, machine, **options) as executor:
        results, _ = run_all(executor, images(count, (9, 10)))
        return np.stack(results), executor.report()["cuda_graph"]


def test_a_recorded_pass_gives_what_the_network_gives():
    torch.manual_seed(0)
    stepwise, not_recorded = recorded_run(FakeMachine(free=1 << 40, per_slice=8), most=4, record=False)
    torch.manual_seed(0)
    machine = FakeMachine(free=1 << 40, per_slice=8)
    replayed, recorded = recorded_run(machine, most=4)
    np.testing.assert_array_equal(replayed, stepwise)
    # Batches of 1, 4, 4, 4, 1: the second of a size is recorded, that and the third are replayed.
    assert recorded == {"replays": 2, "why_not": ""}
    assert not_recorded["replays"] == 0
    assert machine.log.count("recorded") == 1


def test_a_recording_leaves_the_batches_alone():
    recorder = CudaGraph(FakeMachine(), None)
    batches = [torch.full((2, 1, 3, 3), float(value)) for value in range(4)]
    results = [recorder.replay(batch, lambda x: x + 10) for batch in batches]
    assert results[0] is None, "the first of its shape is run as usual"
    assert results[1] is results[2] is results[3], "a recording writes to one place"
    assert torch.equal(results[3], batches[3] + 10)
    assert [float(batch.unique()) for batch in batches] == [0, 1, 2, 3]


def test_while_a_pass_is_replayed_there_is_one_step_for_the_whole_batch():
    network = hungry_network()
    with Executor(network, FakeMachine(free=1 << 40, per_slice=8), most=2) as executor:
        run_all(executor, images(1, (9, 10)))
        steps = []
        for _ in range(3):
            steps.append(len(list(executor.submit(images(2, (9, 10))))))
            executor.collect()
    assert steps == [network.number_of_stages, 1, 1]


def test_an_unrecordable_pass_runs_step_by_step_with_the_reason():
    torch.manual_seed(0)
    expected, _ = recorded_run(FakeMachine(), record=False)
    torch.manual_seed(0)
    machine = FakeMachine(
        free=1 << 40, per_slice=8, fails_to_record=RuntimeError("operation not permitted\nwhen stream is capturing")
    )
    results, report = recorded_run(machine, most=4)
    np.testing.assert_allclose(results, expected, atol=1e-5)
    assert report["why_not"] == "the GPU could not record a pass (operation not permitted when stream is capturing)"
    assert report["replays"] == 0
    assert machine.log.count("recorded") == 1


def test_the_portable_operator_is_not_even_tried_to_be_recorded(monkeypatch):
    monkeypatch.setattr(executor_module, "kernel_in_use", lambda device: KernelStatus("portable PyTorch", "because"))
    machine = FakeMachine(free=1 << 40, per_slice=8)
    _, report = recorded_run(machine, most=4)
    assert "recorded" not in machine.log
    assert report["why_not"] == "the portable form of the operator waits for the GPU"


def test_a_recording_does_not_outlive_its_size_or_the_job():
    recordings = []

    class Watched(FakeMachine):
        def record(self, run, stream):
            replay, result = super().record(run, stream)
            recordings.append(weakref.ref(result))
            return replay, result

    network = hungry_network()
    with Executor(network, Watched(free=1 << 40, per_slice=8), most=2) as executor:
        run_all(executor, images(7, (9, 10)))
        assert recordings[0]() is not None
        run_all(executor, images(3, (9, 10)))
        assert recordings[0]() is None
        run_all(executor, images(4, (9, 10)))
    gc.collect()
    assert [recording() for recording in recordings] == [None] * len(recordings)


def test_between_two_steps_the_consumer_is_outside_of_the_jobs_settings():
    with Executor(hungry_network(), Machine(torch.device("cpu"))) as executor:
        for _ in itertools.islice(executor.submit(images(1)), 3):
            assert not torch.is_inference_mode_enabled()
