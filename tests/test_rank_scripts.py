"""What the scripts that measure trainings by several processes compute without any."""

import os
import select
from multiprocessing import get_context
from socket import AF_UNIX, SOCK_DGRAM, socketpair

import numpy as np
import pytest

from scripts import compare_sweeps, kill_ranks, mpi, two_hosts


def test_a_section_is_replaced_and_others_stay(tmp_path):
    mpi.write_section(tmp_path, "One", "old", {"runs": 1})
    mpi.write_section(tmp_path, "Two", "other\n\n| a |", {"runs": 2})
    mpi.write_section(tmp_path, "One", "new", {"runs": 3})
    text = (tmp_path / "ranks.md").read_text()
    assert text == f"{mpi.TITLE}\n\n## One\n\nnew\n\n## Two\n\nother\n\n| a |\n"
    assert '"runs": 3' in (tmp_path / "ranks.json").read_text()


def test_a_difference_that_is_no_number_is_none():
    a, b = np.zeros(3), np.array([0, np.nan, 0])
    assert mpi.largest_difference([a, a + 0.5], [a, a]) == 0.5
    assert np.isnan(mpi.largest_difference([b, a], [a, a]))


def test_notes_of_open_mpi_are_told_from_what_the_program_says():
    log = "error: lost\r\n-----\nprterun noticed that\n  it was killed\n-----\n\nmore\n"
    assert kill_ranks.own_lines(log) == ["error: lost", "more"]
    log = "-----\nprterun noticed that\nerror: lost\n  it was killed\n-----\n"
    assert kill_ranks.own_lines(log) == ["error: lost"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"left": 1}, ["1 processes were left"]),
        ({"said": []}, ["it said 0 lines"]),
        ({"said": [], "checkpoint": None, "resumed": False}, []),
        ({"resumed": False}, ["it did not resume"]),
        ({"same_bits": False}, ["other bits"]),
        ({"by": 2, "same_bits": False}, []),
        ({"by": 2, "difference": float("nan")}, ["weights differ by nan"]),
        ({"checkpoint": None, "resumed": False}, []),
    ],
)
def test_what_is_not_as_it_should_be_is_named(changes, expected):
    row = {
        "left": 0, "killed": True, "said": ["error: lost"], "checkpoint": "epoch00001",
        "by": kill_ranks.COUNT, "resumed": True, "same_bits": True, "difference": 1e-12,
    }  # fmt: skip
    assert kill_ranks.faults(row | changes) == expected


@pytest.mark.skipif(os.name != "posix", reason="fork is POSIX")
@pytest.mark.parametrize(("loss", "arrive"), [(0.0, 50), (1.0, 0)])
def test_the_line_hands_over_all_frames_in_order_or_drops_them(loss, arrive):
    ends = [socketpair(AF_UNIX, SOCK_DGRAM) for _ in range(2)]
    for _, inner in ends:
        inner.setblocking(False)
    inner = [pair[1].fileno() for pair in ends]
    line = get_context("fork").Process(target=two_hosts.relay, args=(inner, 0.01, loss))
    line.start()
    try:
        found = []
        for number in range(50):
            ends[0][0].send(b"%d" % number)
            if arrive:
                found.append(ends[1][0].recv(100))
        assert found == [b"%d" % number for number in range(arrive)]
        assert arrive or not select.select([ends[1][0]], [], [], 0.2)[0]
    finally:
        line.kill()
        line.join()


def test_a_report_of_sweeps_compares_with_one_run_at_a_time():
    seconds = {"one run at a time": 4.0, "Dask": 8.0}
    report = {
        "data": "mnist", "rounds": 3,
        "seconds": {name: {"median": s, "min": s, "max": s} for name, s in seconds.items()},
        "chosen": {
            name: [{"accuracy": 0.9, "test_accuracy": accuracy} for accuracy in (0.5, 0.75, 0.6)]
            for name in compare_sweeps.CHOSEN
        },
    }  # fmt: skip
    text = compare_sweeps.as_text(report, "m.")
    assert "| Dask | 8.00 | 8.00 … 8.00 | 0.500 |" in text
    assert "| tpe | 90.00% | 60.00% | 50.00% |" in text
