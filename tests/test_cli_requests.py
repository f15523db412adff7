"""Every argument of a command reaches it, by name and type, and no command changes what was asked for."""

import dataclasses

import pytest

from napari_restore_rwkv.commands import requests
from napari_restore_rwkv.commands.parser import build_parser
from napari_restore_rwkv.scans.options import OpenOptions

LINES = {
    requests.RestoreRequest: ["restore", "in", "out", "--series", "2", "--channel", "1", "--correct-tilt"],
    requests.ResultRequest: ["verify", "out"],
    requests.ExportRequest: ["export", "out", "file", "--time-index", "3"],
    requests.EvaluateRequest: ["evaluate", "one", "other", "--window", "-160", "240"],
    requests.ReportRequest: ["report", "in", "out", "--modality", "CT"],
    requests.SimulateRequest: ["simulate", "in", "out", "--task", "mri-sr", "--seed", "1"],
    requests.InspectRequest: ["inspect", "in", "--allow-outside-files"],
    requests.QualifyRequest: ["qualify"],
    requests.FineTuneRequest: ["finetune", "config"],
    requests.TrainRequest: ["train", "config"],
    requests.ReproduceRequest: ["reproduce", "paper", "--data", "data", "--task", "ct-denoise"],
}
# Read where the command line ends, before a command is asked.
AT_THE_EDGE = {"json", "debug", "run", "version", "what"}


@pytest.mark.parametrize(("kind", "line"), LINES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_argument_has_a_field_in_the_request(kind, line):
    given = vars(build_parser().parse_args(line))
    request = requests.request_of(kind, build_parser().parse_args(line))
    names = {field.name for field in dataclasses.fields(kind)}
    if "reading" in names:
        names |= {field.name for field in dataclasses.fields(OpenOptions)} & set(given)
    assert set(given) - AT_THE_EDGE == names - {"reading"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(request, dataclasses.fields(kind)[0].name, None)


def test_how_a_scan_is_read_is_one_value():
    request = requests.request_of(requests.RestoreRequest, build_parser().parse_args(LINES[requests.RestoreRequest]))
    assert request.reading == OpenOptions(series="2", channel=1, correct_tilt=True)
