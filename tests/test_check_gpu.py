"""scripts/check_gpu.py without a GPU: its checks on the CPU kernel, its report, its baseline."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_restore_rwkv.network.bi_wkv_reference import bi_wkv_reference
from napari_restore_rwkv.network.cuda_compiler import compile_cubin
from napari_restore_rwkv.scans.files import read_scan

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
FEW = ((1, 1, 2, 5), (2, 9, 15, 17))
BASELINE = ROOT / "src_kernels" / "benchmark_64_chunks.cu"

# The baseline for the CPU: a thread for each of a block's.
THREADS = f"""
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

struct Index {{ unsigned x; }};
thread_local Index threadIdx, blockIdx;
static std::barrier<>* block_barrier;
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __expf std::exp
#define __syncthreads() block_barrier->arrive_and_wait()
#include "{BASELINE}"

extern "C" void run(const float* w, const float* u, const float* k, const float* v, float* y, long long tokens,
                    long long channels, unsigned grid) {{
    for (unsigned block = 0; block < grid; ++block) {{
        std::barrier<> barrier(kThreads);
        block_barrier = &barrier;
        std::vector<std::thread> threads;
        for (unsigned thread = 0; thread < kThreads; ++thread)
            threads.emplace_back([=] {{
                threadIdx.x = thread;
                blockIdx.x = block;
                bi_wkv_64_chunks(w, u, k, v, y, tokens, channels);
            }});
        for (auto& thread : threads) thread.join();
    }}
}}
"""


@pytest.fixture(scope="module")
def script():
    """The script as a module, and the modules that it finds beside the kernels."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import check_gpu

    return check_gpu


@pytest.fixture
def gates(script):
    return script.gates_gpu


@pytest.mark.slow
def test_the_checks_hold_for_a_kernel_that_is_right(gates):
    found = [
        *gates.parity(CPU, FEW),
        *gates.large_parity(CPU, (1, 40, 60, 9)),
        *gates.extremes(CPU),
        *gates.repeatable(CPU, (1, 40, 60, 9)),
        *gates.autocast(CPU),
    ]
    assert [gate for gate in found if not gate.holds] == []
    assert len(found) == 13


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    [
        lambda y, k: y * (1 + 1e-4),
        # The gradient of k is wrong, the output is not.
        lambda y, k: y + 1e-3 * (k - k.detach()),
        # One place is left as the memory was.
        lambda y, k: torch.cat((y[:, :-1], torch.empty_like(y[:, -1:]) + 0 * y[:, -1:]), dim=1),
    ],
    ids=["output", "gradient", "unwritten"],
)
def test_a_wrong_kernel_fails_its_checks(gates, monkeypatch, mistake):
    right = gates.compiled
    monkeypatch.setattr(gates, "compiled", lambda w, u, k, v, *rest: mistake(right(w, u, k, v, *rest), k))
    single = [gate for gate in gates.parity(CPU, FEW) if "float32" in gate.name]
    assert [gate.holds for gate in single] == [False, False]
    assert not any(gate.holds for gate in gates.large_parity(CPU, (1, 40, 60, 9)))


def test_a_result_that_changes_from_run_to_run_fails(gates, monkeypatch):
    right, calls = gates.compiled, []

    def changing(w, u, k, v, *rest):
        calls.append(1)
        return right(w, u, k, v, *rest) + (len(calls) == 3) * torch.finfo(v.dtype).eps

    monkeypatch.setattr(gates, "compiled", changing)
    assert [gate.holds for gate in gates.repeatable(CPU, (1, 7, 9, 3))] == [False, True, True]


@pytest.mark.slow
def test_the_baseline_computes_the_equation(tmp_path):
    source = tmp_path / "threads.cpp"
    source.write_text(THREADS)
    library = tmp_path / "threads.so"
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True, timeout=240)
    run = ctypes.CDLL(str(library)).run
    for batch, tokens, channels in ((1, 1, 1), (2, 63, 2), (1, 64, 3), (1, 700, 2)):
        w, u = torch.randn(2, channels) / tokens
        k, v = torch.randn(2, batch, tokens, channels)
        y = torch.full_like(v, float("nan"))
        pointers = [ctypes.c_void_p(x.data_ptr()) for x in (w, u, k, v, y)]
        run(*pointers, ctypes.c_longlong(tokens), ctypes.c_longlong(channels), ctypes.c_uint(batch * channels))
        expected = bi_wkv_reference(*(x.double() for x in (w, u, k, v)))
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_baseline_compiles_without_a_warning():
    _, log = compile_cubin("sm_90", BASELINE.read_text(encoding="utf-8"))
    assert "warning" not in log.lower()


def test_without_a_gpu_the_script_says_so_and_fails(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check_gpu.py"])
    assert script.main() == 1
    assert "The compiled kernel does not run here. PyTorch" in capsys.readouterr().out


@pytest.fixture
def pretended(script, monkeypatch, tmp_path):
    """Run the script with given checks and a table; return its code, whether it measured, and what it wrote."""

    def run(*gates):
        asked = []

        def measurements(device, quick):
            asked.append(quick)
            yield "operator, 512 x 512, C = 48, float32", {"forward, rows": {"ms": 0.25, "x copy of 3 arrays": 1.5}}

        monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--quick", "--output", str(tmp_path)])
        monkeypatch.setattr(script, "kernel_in_use", lambda device: SimpleNamespace(why=""))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            script, "environment", lambda device: {"device": "NVIDIA H100 80GB HBM3", "date": "2026-01-02"}
        )
        monkeypatch.setattr(script, "all_gates", lambda device, quick: iter(gates))
        monkeypatch.setattr(script, "inference_on_sample", lambda device: {})
        monkeypatch.setattr(script, "measurements", measurements)
        code = script.main()
        path = tmp_path / "gpu_h100_80gb_hbm3.json"
        return code, asked, json.loads(path.read_text()), path.with_suffix(".md").read_text()

    return run


def test_times_are_taken_and_written_once_all_checks_hold(script, pretended):
    code, asked, results, page = pretended(script.Gate("equation", True, "1e-06"))
    assert (code, asked) == (0, [True])
    assert results["operator, 512 x 512, C = 48, float32"]["forward, rows"]["ms"] == 0.25
    assert page.startswith("# The GPU kernel on NVIDIA H100 80GB HBM3, 2026-01-02\n")
    assert "| equation | yes | 1e-06 |" in page
    assert "| forward, rows | 0.25 | 1.5 |" in page
    assert "| forward, 512 x 512, C = 48, rows, x copy of 3 arrays | at most 2 | 1.5 | yes |" in page


def test_a_failed_check_is_written_and_nothing_is_timed(script, pretended):
    gates = script.Gate("equation", True, "1e-06"), script.Gate("CUDA graph", False, "a replay differs")
    code, asked, results, page = pretended(*gates)
    assert (code, asked) == (1, [])
    assert [check["holds"] for check in results["checks"]] == [True, False]
    assert "1 hold, 1 failed." in page
    assert "| CUDA graph | **no** | a replay differs |" in page
    assert "## Operator" not in page


def test_a_missed_target_is_shown_as_missed(script):
    network = {"compiled, bfloat16": {"times faster": 4.9, "operator's share": 0.1}}
    found = script.targets({"full network, 512 x 512": network})
    assert {name: row["reached"] for name, row in found.items()} == {
        "full network in bfloat16, times faster": "no",
        "operator's share of it": "yes",
    }


@pytest.mark.parametrize(
    ("code", "said", "holds"),
    [
        (0, "========= ERROR SUMMARY: 0 errors", True),
        (9, "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)", False),
        (0, "nothing that a sanitizer says", False),
        (1, "========= ERROR SUMMARY: 0 errors", False),
    ],
)
def test_the_sanitizer_must_have_watched_and_found_nothing(script, monkeypatch, tmp_path, code, said, holds):
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(script.sanitizer())
    assert [gate.holds for gate in found] == [holds] * 4
    assert said.removeprefix("========= ") in found[0].found


def test_a_timing_is_the_median_and_the_range_of_most_runs(script):
    timing = script.benchmark_gpu.Timing.of([9.0, *range(1, 9), 100.0])
    assert (timing.median, timing.low, timing.high, timing.runs) == (5.5, 2, 9.0, 10)


@pytest.fixture
def clockless(script, monkeypatch):
    """The measurements without a GPU: everything runs once, and the n-th of a table took n ms; kernels do nothing."""
    benchmark = script.benchmark_gpu

    def measured(work, runs):
        for run in work.values():
            run()
        return {name: benchmark.Timing(float(n), n, n, runs) for n, name in enumerate(work, start=1)}

    idle = SimpleNamespace(launch=lambda *_: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(benchmark, "Captured", lambda run, pool: run)
    monkeypatch.setattr(benchmark, "measured", measured)
    monkeypatch.setattr(benchmark, "_baseline", lambda *_: lambda: None)
    monkeypatch.setattr(benchmark.cuda_kernels, "kernels_for", lambda *_: idle)
    return benchmark


def test_the_operator_is_measured_against_copies_of_what_it_must_move(clockless):
    table = clockless.measure_operator(CPU, 4, 6, 3, torch.float32)
    milliseconds = {name: row["ms"] for name, row in table.items()}
    for way, arrays in (("forward", 3), ("backward", 5)):
        for order in ("rows", "columns"):
            row = table[f"{way}, {order}"]
            for unit in (f"copy of {arrays} arrays", f"copy of {arrays} arrays, same bytes"):
                assert row[f"x {unit}"] == row["ms"] / milliseconds[unit]
            assert row["GB/s of what must move"] == pytest.approx(arrays * 4 * 6 * 3 * 4 / row["ms"] / 1e6)
    baseline = table["64 chunks a channel"]
    assert baseline["x forward, rows"] == baseline["ms"] / milliseconds["forward, rows"]
    assert "64 chunks a channel" not in clockless.measure_operator(CPU, 4, 6, 3, torch.bfloat16)


@pytest.mark.slow
def test_the_network_is_measured_with_its_error_and_the_operators_share(clockless):
    table = clockless.measure_network(CPU, "light", 32)
    slowest = table["portable, float32"]["ms"]
    for dtype, error in (("float32", 1e-4), ("bfloat16", 0.2)):
        row = table[f"compiled, {dtype}"]
        assert 0 < row["relative error"] < error
        assert row["times faster"] == slowest / row["ms"]
        assert row["operator's share"] == 1 - table[f"without operator, {dtype}"]["ms"] / row["ms"]


def test_inference_is_checked_on_the_sample_scan(script):
    scan = script.sample_scan()
    assert np.array_equal(scan.voxels, read_scan(script.SAMPLE).voxels)
    run = {"difference": {"largest": 0.01, "rms": 0.001}, "seconds_per_slice": 0.02, "report": {}}
    recorded = {**run, "report": {"cuda_graph": {"replays": 2, "why_not": ""}}}
    found = {"runs": {"alone": run, "together": run, "recorded": recorded}, "bytes_left": 1 << 20}
    assert [gate.holds for gate in script.inference_gates(found)] == [True] * 4
    assert script.inference_table(found)["recorded"]["ms a slice"] == pytest.approx(20)
    found["runs"]["together"] = {**run, "difference": {"largest": 1.0, "rms": 0.001}}
    found["bytes_left"] = 1 << 30
    assert [gate.holds for gate in script.inference_gates(found)] == [False, True, True, False]
    assert [*script.inference_gates({})] == []


def test_inference_runs_on_the_sample_scan(script, monkeypatch):
    monkeypatch.setattr("napari_restore_rwkv.restoration.verification.SLICES", 1)
    scan = script.sample_scan()
    monkeypatch.setattr(script, "sample_scan", lambda: scan.with_voxels(scan.voxels[:, :64, :64]))
    runs = script.inference_on_sample(CPU)["runs"]
    assert runs["together"]["difference"]["largest"] == 0
    assert runs["recorded, bfloat16"]["difference"]["largest"] > 0
