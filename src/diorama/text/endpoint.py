"""One question to an OpenAI-compatible chat endpoint, with every fault in one sentence."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from diorama.errors import InputError

__all__ = ["ask"]


def ask(
    messages: Sequence[Mapping[str, Any]],
    url: str,
    model: str,
    api_key: str | None = None,
    *,
    purpose: str,
    remedy: str,
    temperature: float = 0.7,
    timeout: float = 30.0,
) -> str:
    """Return the answer to a chat, white space evened out and quotation marks around it left out.

    Args:
        messages: Roles and contents, as the protocol has them.
        url: Base address, for example ``http://localhost:8000/v1``.
        model: Name of the model there.
        api_key: Sent as bearer token where given.
        purpose: What the endpoint is for, one word, for messages.
        remedy: What to do if it fails, for messages.
        temperature: 0 for the likeliest answer.
        timeout: Seconds to wait.

    Raises:
        InputError: the address is not http or https, does not answer in time, or answers with an error or no text.
    """
    if not re.match(r"https?://[^/]", url):
        raise InputError(f"{purpose} endpoint '{url}' is not a web address; give one that begins with http:// or https://")
    body = {"model": model, "temperature": temperature, "messages": list(messages)}
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
    address = f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
    request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            content = json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(f"{purpose} endpoint {address} answered with status {error.code}; {remedy}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = f"within {timeout:g} s" if isinstance(error, TimeoutError) or "timed out" in str(error) else f"as a chat endpoint does ({error})"
        raise InputError(f"{purpose} endpoint {address} did not answer {why}; {remedy}") from error
    text = " ".join(content.split()).strip('"') if isinstance(content, str) else ""
    if not text:
        raise InputError(f"{purpose} endpoint {address} answered with no text; {remedy}")
    return text
