"""OpenVINO's counters, as it gives them here and now, in every form in which they are kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from partc.errors import UsageError
from partc.imports.attribution import attribute
from partc.imports.imported import ImportedCosts
from partc.imports.reading import read
from partc.ir.program import Program

Write = Callable[..., Path]
Counted = list[list[Any]]


def dumped(counted: Counted, time: Callable[[timedelta], object]) -> list[list[dict[str, object]]]:
    return [
        [
            {"node_name": each.node_name, "node_type": each.node_type,
             "exec_type": each.exec_type, "status": str(each.status),
             "real_time": time(each.real_time), "cpu_time": time(each.cpu_time)}
            for each in nodes
        ]
        for nodes in counted
    ]  # fmt: skip


def microseconds(time: timedelta) -> int:
    return time // timedelta(microseconds=1)


def table(counted: Counted, status: Callable[[Any], str] = str) -> str:
    lines = []
    for nodes in counted:
        lines.append("layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)")
        for each in nodes:
            ms = f"{each.real_time / timedelta(milliseconds=1):.3f}"
            row = (each.node_name, status(each.status), each.node_type, each.exec_type, ms, ms)
            lines.append(";".join(row))
        lines += ["Total;;;;1.234;1.234", ""]
    return "\n".join(lines) + "\n"


def check(imported: ImportedCosts, program: Program, counted: Counted) -> None:
    assert (imported.kind, imported.runs, imported.threads) == ("openvino", len(counted), None)
    executed = [sum((n.real_time for n in nodes), timedelta()) for nodes in counted]
    found = attribute(imported, program)
    whole_s = sorted(executed)[len(executed) // 2].total_seconds()
    assert found.whole.median_s == pytest.approx(whole_s)
    assert sum(c.median_s for c in found.costs.values()) == pytest.approx(whole_s)
    assert found.costs[program.block_of["conv"].name].median_s > 0
    assert {c.provenance for c in found.costs.values()} == {"imported"}


def test_dumps(counted: Counted, program: Program, write: Write) -> None:
    check(read(write(dumped(counted, microseconds))), program, counted)
    check(read(write(dumped(counted, str))), program, counted)
    check(read(write(dumped(counted, microseconds)[0])), program, counted[:1])


def test_tables(counted: Counted, program: Program, write: Write) -> None:
    check(read(write(table(counted), "r.csv")), program, counted)
    plain = table(counted, lambda status: str(status).rpartition(".")[2])
    check(read(write("\ufeff" + plain.replace("\n", "\r\n"), "r.csv")), program, counted)


def test_sorted_tables_are_separated_by_commas(
    counted: Counted, program: Program, write: Write
) -> None:
    lines = ["layerName,execStatus,layerType,execType,realTime (ms),cpuTime (ms),proportion (%)"]
    lines += [
        f'"{n.node_name}",{n.status},{n.node_type},{n.exec_type},'
        f"{n.real_time / timedelta(milliseconds=1):.3f},0.1,1.00%"
        for n in counted[0]
    ]
    lines += ["", "Total time: 1.5 milliseconds", "Total CPU time: 1.5 milliseconds"]
    check(read(write("\n".join(lines), "sorted.csv")), program, counted[:1])


def test_reports_as_json(counted: Counted, program: Program, write: Write) -> None:
    def nodes(each: list[Any]) -> dict[str, Any]:
        return {
            "nodes": [
                {"name": n.node_name, "node_type": n.node_type, "status": str(n.status),
                 "real_time": f"{n.real_time / timedelta(milliseconds=1):.3f}",
                 "cpu_time": "0.000", "exec_type": n.exec_type}
                for n in each
            ],
            "total_real_time": "1.0",
        }  # fmt: skip

    detailed = {"report_type": "detailed", "detailed_performance": [nodes(e) for e in counted]}
    check(read(write(detailed)), program, counted)
    average = {"report_type": "average", "avg_performance": nodes(counted[0])}
    check(read(write(average)), program, counted[:1])


def test_a_reorder_works_for_who_reads_it(program: Program, write: Write) -> None:
    rows = [("conv/WithoutBiases", "Convolution", 700), ("relu_acdb_abcd_pool", "Reorder", 50),
            ("c_f32_acdb_bf16_abcd_d", "Reorder", 50), ("pool", "ReduceMean", 100),
            ("y", "FullyConnected", 100), ("Convert_305", "Subgraph", 10)]  # fmt: skip
    data = [{"node_name": name, "node_type": kind, "status": "Status.EXECUTED", "real_time": us}
            for name, kind, us in rows]  # fmt: skip
    found = attribute(read(write(data)), program)
    scale = 1010 / 1000
    assert found.costs[program.block_of["pool"].name].median_s == pytest.approx(150e-6 * scale)
    assert found.costs[program.block_of["fc"].name].median_s >= 99e-6 * scale
    assert [each.name for each in found.unattributed] == ["Convert_305"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-json_stats"]])
def test_what_benchmark_app_writes(
    model_path: Path, program: Program, tmp_path: Path, options: list[str]
) -> None:
    pytest.importorskip("openvino.tools.benchmark")
    subprocess.run(
        [sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()",
         "-m", model_path, "-d", "CPU", "-niter", "5", "-nireq", "1", "-hint", "none", "-nthreads",
         "1", "-shape", "[1,1,64,64]", "-report_type", "detailed_counters",
         "-report_folder", tmp_path, *options],
        check=True, capture_output=True, timeout=200,
    )  # fmt: skip
    (report,) = tmp_path.glob("benchmark_detailed_counters_report.*")
    found = attribute(read(report), program)
    assert found.costs[program.block_of["conv"].name].median_s > 0
    (other,) = tmp_path.glob("benchmark_report.*")
    with pytest.raises(UsageError):
        read(other)


HEADER = "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\n"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (HEADER, "no kernel that ran"),
        (HEADER + "conv;NOT_RUN;Convolution;x;0;0\n", "no kernel that ran"),
        (HEADER + "conv;EXECUTED\n", "cut off"),
        (HEADER + "conv;EXECUTED;Convolution;x;fast;0\n", "line 2.*not a time"),
        (HEADER + "conv;EXECUTED;Convolution;x;-1;0\n", "no time"),
        (HEADER + "conv;EXECUTED;Convolution;x;nan;0\n", "no time"),
        (HEADER + "c" * 200_000, "line of more than"),
        (HEADER + "conv;EXECUTED;C;x;1;1\n" * 20_002, "more than 20,000"),
        ("layerName;time\nconv;1\n", "names no columns"),
        ([{"node_name": "conv", "real_time": "1:2"}], "not a time"),
        ([{"node_name": 7, "real_time": 1}], "not a name"),
        ([[{"node_name": "conv", "real_time": 1}], 7], "some lists and some nodes"),
        ([{"node_name": "conv", "real_time": 1}, 7], "no object"),
        ({"detailed_performance": 7}, "without a list of nodes"),
        ({"detailed_performance": []}, "no kernel that ran"),
        ({"avg_performance": {"nodes": []}}, "no kernel"),
        ({"execution_results": {}}, "benchmark_app without counters"),
        ({"traceEvents": []}, "trace of another tool"),
        ({"format": "partc-costs"}, "partc costs import"),
        ({}, "no profile"),
        ([], "no profile"),
        ("", "nothing that costs can be read from"),
        ("hello", "nothing that costs can be read from"),
        (b"\x08\x01\xff\xfe" * 9, "nothing that costs can be read from"),
        ("[" * 200_000, "cut off or damaged"),
        ("[1" + "0" * 5000 + "]", "cut off or damaged"),
    ],
)
def test_files_of_another_kind_and_damaged_ones(write: Write, content: object, part: str) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        read(write(content))
    assert "profile.json" in caught.value.message
    assert len(caught.value.message) < 500


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(UsageError, match="no file"):
        read([])
    monkeypatch.setattr("partc.imports.reading._LARGEST_BYTES", 10)
    (tmp_path / "large").write_text("x" * 11)
    with pytest.raises(UsageError, match="larger than"):
        read(tmp_path / "large")
