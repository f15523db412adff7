"""Helpers for the tests of the command line."""

import signal


def hears_signals():
    """Let a child process receive signals that this one may ignore, because of nohup or running in the background."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def restore_words(scan_file, weights_file, tmp_path, *more):
    return ["restore", scan_file, tmp_path / "restored.nii.gz", "--checkpoint", weights_file, *more]


def assert_refused_before_work(outcome, words):
    code, out, err = outcome
    assert code == 1
    assert out == ""
    assert words in err
    assert err.startswith("restore-rwkv: ")
    assert "Traceback" not in err
