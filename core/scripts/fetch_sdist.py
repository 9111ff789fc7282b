"""Downloads one source distribution from a package index and checks its hash. The standard library only.

`pip download` would run the package's build backend, and so install it with all that it needs, only to learn its name.
"""

import argparse
import hashlib
import html
import re
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
import urllib.response
from pathlib import Path

TIMEOUT_S = 60


class FetchError(Exception):
    """Why there is no file."""


def _open(url: str) -> urllib.response.addinfourl:
    """The answer of a URL, whose user and password (as pip takes them) go into a header."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise FetchError(f"{parts.scheme or 'no'} URL; the package index must be http or https")
    host = parts.netloc.rpartition("@")[2]
    handlers: list[urllib.request.BaseHandler] = []
    if parts.username is not None:
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        passwords.add_password(None, f"{parts.scheme}://{host}/", user, password, is_authenticated=True)
        handlers.append(urllib.request.HTTPBasicAuthHandler(passwords))
    plain = parts._replace(netloc=host).geturl()
    headers = {"Accept": "text/html", "User-Agent": "naiad"}
    request = urllib.request.Request(plain, headers=headers)  # noqa: S310 - the scheme is checked above
    try:
        answer: urllib.response.addinfourl = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
    except (urllib.error.URLError, TimeoutError) as error:
        raise FetchError(f"{plain}: {getattr(error, 'reason', error)}") from error
    return answer


def find_link(page: str, page_url: str, filename: str) -> str:
    """The address of `filename` on a page of the simple index (PEP 503), without its fragment."""
    for match in re.finditer(r"<a\s[^>]*href\s*=\s*[\"']([^\"']+)[\"']", page, re.IGNORECASE):
        url = urllib.parse.urldefrag(urllib.parse.urljoin(page_url, html.unescape(match.group(1)))).url
        if urllib.parse.unquote(urllib.parse.urlsplit(url).path).endswith("/" + filename):
            return url
    raise FetchError(f"the package index has no {filename}")


def fetch(index: str, project: str, filename: str, sha256: str, output: Path) -> None:
    """Writes the file to `output`. Raises FetchError if it cannot be had or is another one."""
    project_url = f"{index.rstrip('/')}/{project}/"
    with _open(project_url) as answer:
        url = find_link(answer.read().decode("utf-8", "replace"), project_url, filename)
    with _open(url) as answer, output.open("wb") as file:
        shutil.copyfileobj(answer, file)
    found = hashlib.sha256(output.read_bytes()).hexdigest()
    if found != sha256:
        raise FetchError(f"{filename} has SHA-256 {found}, not {sha256}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Downloads one source distribution from a package index.")
    parser.add_argument("--index", required=True, help="address of the simple index")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("project")
    parser.add_argument("filename")
    arguments = parser.parse_args()
    try:
        fetch(arguments.index, arguments.project, arguments.filename, arguments.sha256, arguments.output)
    except (FetchError, OSError) as error:
        print(f"error: cannot get {arguments.filename}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
