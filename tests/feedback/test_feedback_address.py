"""Passwords of addresses are recognised, never stored, never shown."""
from __future__ import annotations

import importlib
import json
import os

import pytest

from tfrecal import checks
from tfrecal.feedback import FeedbackStore, FeedbackUnavailable, named_store
from tfrecal.feedback.store import address
from tfrecal.retrain.config import RetrainConfig

SECRETS = [
    "postgresql://me:secret@127.0.0.1:1/n",
    "postgresql+psycopg://me:secret@127.0.0.1:1/n",
    "postgresql://me:x/secret@127.0.0.1:1/n",
    "postgresql://me:x@secret@127.0.0.1:1/n",
    "postgresql://me:x/y@secret@127.0.0.1:1/n",
    "postgresql://me:x:secret@127.0.0.1:1/n",
    "postgresql://me%3Asecret@127.0.0.1:1/n",
    "postgresql://127.0.0.1:1/n?password=secret",
    "postgresql://127.0.0.1:1/n?PASSWORD=secret",
    "postgresql://127.0.0.1:1/n?user=me&password=secret",
    "postgresql://?host=127.0.0.1&port=1&user=me&password=secret",
    "postgresql://127.0.0.1:1/n?sslpassword=secret",
    "postgresql://127.0.0.1:1/n?passfile=secret",
    "postgresql://me:secret@h1:5432,h2:5433/n", "mysql://me:secret@host/n",
    "postgresql://me:secret@host:port/n", "postgres://me:secret@host/n",
    "host=127.0.0.1 port=1 user=me password=secret", "password = 'secret'",
    "user=me dbname=n sslpassword=secret", "postgresql:me:secret@host/n",
    "//me:secret@host/n", "me:secret@host/n", " postgresql://me:secret@h/n",
    "postgresql://h/me:secret@n", "POSTGRESQL://me:secret@127.0.0.1:1/n",
    "sqlite:///feedback.db?password=secret", "sqlite://me:secret@/f.db",
    # Without the question mark.
    "postgresql://password=secret", "e://host/password=secret"]
PLAIN = [
    "feedback.db", "data/feedback-1=2.db", "/tmp/a b.db", "C:\\a@b\\f.db",
    "sqlite:///feedback.db", "sqlite:////data/feedback.db",
    "postgresql://me@host/n", "postgresql://host:5432/n",
    "postgresql+psycopg://me@host/n?sslmode=require", "postgresql:///n"]


@pytest.mark.parametrize("text", SECRETS)
def test_it_is_neither_stored_nor_shown(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must hold no password") as error:
        RetrainConfig(run="r", to="t", feedback=text)
    assert "secret" not in str(error.value)
    (tmp_path / "config.json").write_text(json.dumps(
        {"run": "r", "to": "t", "feedback": text}))
    with pytest.raises(ValueError) as error:
        RetrainConfig.from_folder(tmp_path)
    assert "secret" not in str(error.value)
    for call in (lambda: FeedbackStore(text, patience=0.1),
                 lambda: named_store(text, made=True)):
        with pytest.raises((ValueError, FeedbackUnavailable)) as error:
            call().close()
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["config.json"]  # and no SQLite file
    assert "secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_none_may_be_stored(text, tmp_path):
    config = RetrainConfig(run="r", to="t", feedback=text)
    config.write(tmp_path)
    assert RetrainConfig.from_folder(tmp_path).feedback == text
    assert "***" not in address.hide_password(address.parse_address(text))


@pytest.mark.parametrize("text", SECRETS[:9] + SECRETS[11:14])
def test_an_option_of_another_name_does_not_show_it(text):
    for values in ({"feedbackk": text}, {"feedback": [text]},
                   {"index": text}, {"correction": text}, {"seed": text},
                   {"metric": text}):
        with pytest.raises(ValueError) as error:
            RetrainConfig(**{"run": "r", "to": "t", **values})
        assert "secret" not in str(error.value) or "%3A" in text
    assert "secret" not in checks.shown({"a": [text]}) or "%3A" in text


def test_a_drivers_words_are_shown_without_it():
    url = address.parse_address(
        "postgresql://me:secret@host/n?sslpassword=hidden")
    assert address.hide_secrets(url, "bad \"secret\" or hidden") == (
        "bad \"***\" or ***")


def test_without_sqlalchemy_every_url_is_refused(monkeypatch):
    monkeypatch.setattr(address, "sa", None)
    for text in (*SECRETS, "postgresql://host/n"):
        with pytest.raises(ValueError, match="TFRECAL_FEEDBACK"):
            address.check_no_password(feedback=text)
    for text in ("feedback.db", "sqlite:///feedback.db"):
        address.check_no_password(feedback=text)


def test_it_is_imported_without_sqlalchemy(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    try:
        assert importlib.reload(address).sa is None
    finally:
        monkeypatch.undo()
        importlib.reload(address)
