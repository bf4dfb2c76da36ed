"""The key comes from a file or the environment, and no error shows it."""

from pathlib import Path

import pytest

from vla.core.errors import ConfigError
from vla.core.secret import VARIABLE, hand_on, read_api_key


def test_the_file_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_api_key() is None
    monkeypatch.setenv(VARIABLE, "of-the-environment")
    assert read_api_key() == "of-the-environment"
    (tmp_path / "key").write_text("of-the-file\n")
    assert read_api_key(tmp_path / "key") == "of-the-file"
    hand_on(None)
    assert read_api_key() == "of-the-environment"
    hand_on(tmp_path / "key")
    assert read_api_key() == "of-the-file"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"line\nsecret", "schlüssel".encode(), b"\xff\xfe"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"API key: .*key") as refused:
        read_api_key(tmp_path / "key")
    assert not any(word in str(refused.value) for word in ("words", "secret", "schl"))


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        read_api_key(tmp_path / "none")
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ConfigError, match="VLA_API_KEY is empty"):
        read_api_key()
