"""Validation of models with versions, and of the prefix of a proxy, in settings."""

from __future__ import annotations

import pytest

from serving.settings import Settings
from tests.support.settings import wrong


def test_a_model_may_be_asked_for_in_several_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", "image:latest,sentiment,sentiment:ab12,image,sentiment:0.1-rc_2")
    settings = Settings()
    assert settings.models == ["image", "sentiment", "sentiment:ab12", "sentiment:0.1-rc_2"]
    assert settings.names == ["image", "sentiment"]
    assert settings.pinned == {"sentiment": ["ab12", "0.1-rc_2"]}


@pytest.mark.parametrize("version", ["", " ", "New", "a:b", "-1", "a/b", "a" * 64])
def test_what_cannot_be_a_version_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    (line,) = wrong(monkeypatch, TIFFIN_MODELS=f"sentiment:{version}")
    assert "has no version after its colon: up to 63 small letters and digits" in line


@pytest.mark.parametrize("path", ["/project", "/v1/~team_a/x.y-z", "/sentiment2"])
def test_a_prefix_is_a_path(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("TIFFIN_ROOT_PATH", path)
    assert Settings().root_path == path


@pytest.mark.parametrize(
    "path", ["/", "project", "/project/", "//project", "/a//b", "/../a", "/a/.", "/a b", "/a?b", "/a%20b", "/é", "/a\n"]
)
def test_what_is_no_prefix_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (line,) = wrong(monkeypatch, TIFFIN_ROOT_PATH=path)
    assert line.endswith("must be a path such as /project, with a slash at its beginning and none at its end")


@pytest.mark.parametrize("path", ["/image", "/image/v1"])
def test_a_prefix_that_a_model_has_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (line,) = wrong(monkeypatch, TIFFIN_ROOT_PATH=path)
    assert "must not begin with the name of a model" in line
    monkeypatch.setenv("TIFFIN_MODELS", "sentiment")
    assert Settings().root_path == path


@pytest.mark.parametrize("path", ["/v2", "/predict", "/static/a"])
def test_a_prefix_that_the_server_has_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (line,) = wrong(monkeypatch, TIFFIN_ROOT_PATH=path)
    assert f"must not begin with /{path.split('/')[1]}, which is a path of the server's own" in line
