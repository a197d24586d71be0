"""Repositories of the Hugging Face hub as local folders, through huggingface_hub (extra ``hub``)."""

from __future__ import annotations

import re
from pathlib import Path

from diorama.errors import CheckpointError, MissingExtraError

__all__ = ["fetch", "is_hub_id"]

_WANTED = ("*.json", "*.safetensors", "*.pth", "*.txt", "*.model")
"""Files of a model folder; pictures and examples stay where they are."""


def is_hub_id(source: str | Path) -> bool:
    """Return whether a source that is no folder here reads as ``owner/name``, with an optional ``@revision``."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", str(source)))


def fetch(source: str) -> Path:
    """Return the local folder of a hub repository, downloaded if it is not in the cache yet.

    Args:
        source: ``owner/name`` or ``owner/name@revision``.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        CheckpointError: there is no such repository, it may not be read, or the hub cannot be reached and the cache lacks it.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub", f"the repository {source}") from error
    name, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(_WANTED)))
    except GatedRepoError as error:
        raise CheckpointError(
            f"the hub repository {name} asks to accept its terms first; do so on its page, then log in with 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"there is no folder '{source}' here and no hub repository of that name; check the spelling") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"the hub repository {name} has no revision '{revision}'; leave it out for the newest") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder '{source}' here, and the hub cannot be reached to look for the repository; connect to it once, or pass a "
            "folder that holds model_index.json"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"the hub repository {name} cannot be downloaded ({' '.join(str(error).split())[:160]}); try again") from error
