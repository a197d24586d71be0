"""A chat endpoint's answers and faults; a real server on this machine plays it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.chat import chat_server

from diorama.errors import InputError
from diorama.text.endpoint import ask


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with chat_server(lambda body, path, key: f'"{body["messages"][-1]["content"]}\n {body["model"]} {body["temperature"]} {key} {path}"') as url:
        yield url


def say(url: str, text: str, *, timeout: float = 5.0, key: str | None = None) -> str:
    message = {"role": "user", "content": text}
    return ask([message], url, "m", key, purpose="caption", remedy="use another", temperature=0.2, timeout=timeout)


def test_the_answer_comes_without_its_quotation_marks(endpoint: str) -> None:
    assert say(endpoint, "a ball", key="k") == "a ball m 0.2 Bearer k /v1/chat/completions"
    assert say(f"{endpoint}/chat/completions", "a ball") == "a ball m 0.2 None /v1/chat/completions"


@pytest.mark.parametrize(
    ("asked", "message"), [("fail", "status 503"), ("garbage", "as a chat endpoint does"), ("nothing", "no text"), ("hang", r"within 0\.2 s")]
)
def test_faults_name_the_purpose_and_the_remedy_in_one_sentence(endpoint: str, asked: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        say(endpoint, asked, timeout=0.2 if asked == "hang" else 5.0)
    assert str(caught.value).startswith("caption endpoint")
    assert str(caught.value).endswith("use another")
    assert "\n" not in str(caught.value)


def test_other_addresses_are_refused() -> None:
    with pytest.raises(InputError, match="http://"):
        say("file:///etc/hosts", "x")
