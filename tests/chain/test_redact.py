"""Keys inside URLs never come out."""

import pytest

from aggregator.chain.redact import Redactor, check_url, redact
from aggregator.core.errors import ConfigError

URLS = [
    "https://mainnet.infura.io/v3/0123456789abcdef0123456789abcdef",
    "https://eth-mainnet.g.alchemy.com/v2/AbC-dEf_123456",
    "https://user:hunter22@node.example:8545/",
    "https://rpc.example/?apikey=s3cr3t%2Fkey&x=1",
]


@pytest.mark.parametrize("url", URLS)
def test_only_scheme_and_host_are_shown(url):
    shown = redact(url)
    assert shown.endswith("/***")
    assert not any(part in shown for part in ("0123456789", "AbC", "hunter22", "user", "s3cr3t"))


@pytest.mark.parametrize("url", URLS)
def test_text_of_others_is_cleaned(url):
    clean = Redactor([url])
    said = clean(
        f"project {url} key 0123456789abcdef0123456789abcdef AbC-dEf_123456 hunter22 s3cr3t/key s3cr3t%2Fkey rejected"
    )
    secret = {0: "0123456789abcdef", 1: "AbC-dEf", 2: "hunter22", 3: "s3cr3t"}[URLS.index(url)]
    assert secret not in said
    assert said.endswith("rejected")


@pytest.mark.parametrize(
    "said",
    [
        "s3cr3t/key+a b",
        "s3cr3t%2Fkey%2Ba%20b",
        "s3cr3t%2fkey%2ba%20b",
        "s3cr3t%2Fkey%2Ba+b",
        "S3CR3T/KEY+A B",
        "Authorization: Basic YW5uOnB3QDEyMw==",  # base64 of ann:pw@123
        "ann pw@123 pw%40123",
        r"s3cr3t\/key\u002Ba b",
    ],
)
def test_a_key_is_known_however_it_is_written(said):
    shown = Redactor(["https://ann:pw%40123@h/?k=s3cr3t%2Fkey%2Ba%20b"])(f"told {said} off")
    assert not any(part in shown.lower() for part in ("s3cr3t", "key", "yw5u", "pw", "ann"))


def test_data_keep_their_words_and_lose_the_key():
    clean = Redactor(["https://bot:pw@h/deribit/0x12345678abc/v2?year=2024&user=trader&k=s3cr3t%2Fkey"])
    spoken = (
        '{"instrument": "BTC-27DEC2024", "venue": "deribit", "user": "trader", "path": "/0X12345678ABC", "n": 2024}'
    )
    assert clean.data(spoken) == spoken.replace("0X12345678ABC", "***")
    assert (
        clean.data(r'["s3cr3t/key", "s3cr3t\/key", "S3CR3T\u002fkey", "s3cr3t%2fkey"]')
        == '["***", "***", "***", "***"]'
    )
    assert Redactor(["https://www.deribit.com/api/v2"]).data(spoken) == spoken


def test_urls_of_strangers_are_cleaned_and_text_is_bounded():
    said = Redactor([])("see https://other.example/v2/thekeyofsomeone\x1b[31m " + "x" * 1000)
    assert "thekeyofsomeone" not in said
    assert len(said) <= 256
    assert said.isprintable()


@pytest.mark.parametrize(
    "url", ["", "node.example", "ws://node.example/k3y", "file:///etc/passwd", "http://", "http://h:99999/k3y"]
)
def test_a_broken_url_is_refused_without_showing_it(url):
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "k3y" not in str(caught.value)
    assert "passwd" not in str(caught.value)
