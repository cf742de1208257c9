"""Tokens of AWS: the names in a host, and the form of a token. The service itself is not asked."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest
from support.caches import make_cache

from django_vcache.aws import Token, token_for


@pytest.mark.parametrize(
    ("host", "name", "region", "service", "serverless"),
    [
        ("master.my-cache.abc123.euc1.cache.amazonaws.com", "my-cache", "eu-central-1", "elasticache", False),
        ("clustercfg.my-cache.abc123.use1.cache.amazonaws.com", "my-cache", "us-east-1", "elasticache", False),
        ("my-cache-a1b2c3.serverless.apse2.cache.amazonaws.com", "my-cache", "ap-southeast-2", "elasticache", True),
        ("clustercfg.mine.abc123.memorydb.eu-west-1.amazonaws.com", "mine", "eu-west-1", "memorydb", False),
    ],
)
def test_a_host_tells_the_names(host: str, name: str, region: str, service: str, serverless: bool) -> None:
    token = token_for(host, "app")
    assert (token.name, token.region, token.service, token.serverless) == (name, region, service, serverless)


@pytest.mark.parametrize("host", ["localhost", "cache.example.com", "master.x.abc.nowhere.cache.amazonaws.com"])
def test_another_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"make a django_vcache\.aws\.Token"):
        token_for(host, "app")


@pytest.mark.parametrize("serverless", [False, True])
def test_a_token_is_a_signed_request(monkeypatch: pytest.MonkeyPatch, serverless: bool) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    begun = time.time()
    made = Token("app", "My-Cache", "eu-central-1", serverless=serverless)()
    assert made["username"] == "app"
    assert begun + 900 <= made["expires_at"] <= time.time() + 900
    assert "s3cr3t" not in made["password"]
    url = urlsplit(f"https://{made['password']}")
    query = {key: value[0] for key, value in parse_qs(url.query).items()}
    assert (url.hostname, url.path) == ("my-cache", "/")
    assert (query["Action"], query["User"], query["X-Amz-Expires"]) == ("connect", "app", "900")
    assert query["X-Amz-Credential"].endswith("/eu-central-1/elasticache/aws4_request")
    assert query["X-Amz-Signature"]
    assert query.get("ResourceType") == ("ServerlessCache" if serverless else None)


def test_the_option_takes_user_and_host_of_the_url() -> None:
    make_cache("rediss://app@master.my-cache.abc123.euc1.cache.amazonaws.com", CREDENTIALS="aws")
