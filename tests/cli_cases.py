"""What a command said, for the tests of `cli`."""


def said(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return " ".join((captured.out + captured.err).split())
