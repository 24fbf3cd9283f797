"""Checkpoints on the Hugging Face hub, through its client and its cache."""

import os
import socket
from pathlib import Path
from urllib.parse import urlparse

from jtl.errors import UserError
from jtl.models.pretrained.files import CONFIG, WEIGHTS, Files

TIMEOUT = 3.0
"""Seconds that the hub has to answer."""
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def files(reference: str) -> Files:
    """The files of ``OWNER/NAME`` or ``OWNER/NAME@REVISION``; each is fetched when it is asked for.

    What is in the client's cache is not fetched again.

    Raises:
      UserError: there is no such checkpoint or revision, or it has to be fetched and the hub cannot
        be reached.
    """
    repository, _, revision = reference.partition("@")

    def find(name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(repository, name, revision=revision or None)
        if cached is None:
            return _fetched(repository, revision, name)
        # Else a path, or a mark that the checkpoint is known to have no such file.
        return Path(cached) if isinstance(cached, str) else None

    config = find(CONFIG)
    # The client keeps a checkpoint's files under .../snapshots/COMMIT/.
    commit = config.parent.name if config else revision
    return Files(reference, find, f"{repository}@{commit}")


def _fetched(repository: str, revision: str, name: str) -> Path | None:
    """A file from the hub; None where the checkpoint has none of that name."""
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    asked = f"{repository}@{revision}" if revision else repository
    if HF_HUB_OFFLINE or not _reachable():
        if name in (CONFIG, WEIGHTS):
            raise UserError(_offline(asked, name))
        print(f"{asked}: {name} is not in the cache and the hub is out of reach: taken as absent")
        return None
    try:
        return Path(hf_hub_download(repository, name, revision=revision or None))
    except errors.EntryNotFoundError:
        return None
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model.backbone: {repository} has no revision {revision}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"model.backbone: the hub has no {repository}, or it is private; check the name, or "
            "log in with 'hf auth login'"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"model.backbone: {asked} could not be fetched ({said})") from error


def _reachable() -> bool:
    """Does the hub answer? The client itself would try for half a minute."""
    from huggingface_hub.constants import ENDPOINT

    if any(os.environ.get(name) for name in _PROXIES):
        return True
    address = urlparse(ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def _offline(asked: str, name: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"model.backbone: {asked} is not in {HF_HUB_CACHE} (its {name} is missing), and the hub "
        "cannot be reached; on a connected machine run 'hf download "
        f"{asked.replace('@', ' --revision ')}' and copy that folder, or name a package:, a run: "
        "or a file: that is here"
    )


def parsed(reference: str) -> bool:
    """Is it a name of the hub?"""
    owner, slash, name = reference.partition("@")[0].partition("/")
    return bool(slash and owner and name) and "/" not in name and ":" not in reference
