"""A place that cannot be reached is told at once, and what is here already is not asked for."""

import socket

import huggingface_hub
import pytest

from mtla_espnet import network
from mtla_espnet.files import UserError
from mtla_espnet.network import unreachable, unreachable_on_hub
from mtla_espnet.runner.checks import _check_frontend


@pytest.fixture
def offline(monkeypatch):
    """No proxy, no cache, and a network that refuses; returns the addresses that were asked."""
    asked = []

    def refuse(address, timeout):
        assert timeout <= 5
        asked.append(address)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(network.urllib.request, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return asked


def test_what_cannot_be_reached_is_told(offline, monkeypatch):
    expected = "huggingface.co cannot be reached: Network is unreachable"
    assert unreachable_on_hub("me/model") == expected
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror:8080")
    assert unreachable_on_hub("me/model").startswith("mirror cannot be reached")
    assert unreachable("http://a.b/c").startswith("a.b cannot be reached")
    assert offline == [("huggingface.co", 443), ("mirror", 8080), ("a.b", 80)]


def test_nothing_is_asked_where_it_need_not_be(offline, monkeypatch):
    monkeypatch.setattr(network.urllib.request, "getproxies", lambda: {"https": "x"})
    assert unreachable("https://a") is None
    monkeypatch.setattr(network.urllib.request, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/a/config.json")
    assert unreachable_on_hub("me/model") is None
    assert offline == []


def test_a_front_end_of_the_hub_is_asked_for_before_stage_1(offline, tmp_path):
    def check(model):
        _check_frontend({"frontend": "transformers", "frontend_conf": {"model": model}})

    with pytest.raises(UserError, match="model: me/model is not in the cache and cannot be fetch"):
        check("me/model")
    check(str(tmp_path))
    _check_frontend({"frontend": "default"})
    assert len(offline) == 1
