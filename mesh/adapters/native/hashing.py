"""What is in a workspace, by content: the paths that git knows or would know, each with its blob's hash, in one pass over everything.

The index already holds the hash of every clean file, so only what is modified or new is read. Two checkouts of one commit see the same names
and hashes, whatever filters (`.gitattributes`) did to the files on disk, since git itself is asked.
"""

import hashlib
import os
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mesh.adapters.native.links import Links, within
from mesh.errors import UsageError
from mesh.exec.globs import Globs

SUBMODULE_DEPTH_MAX: Final = 8

_GITLINK: Final = "160000"
_LINK: Final = "120000"
_PROGRAM: Final = "100755"
_PLAIN: Final = "100644"
_SHA256_CHARS: Final = 64
_CHUNK_BYTES: Final = 1 << 20
_NOT_A_REPOSITORY: Final = b"not a git repository"
# A hook of git runs us with these set; they would point every command at one repository, whatever the directory.
_OF_A_HOOK: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


class GitError(UsageError):
    """git said no; the message is git's own."""


def git(workspace: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """What `git arguments` prints in `workspace`. Raises `GitError`."""
    environ = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    environ |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=workspace, env=environ, input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError:
        if not workspace.is_dir():
            raise UsageError(f"there is no directory {workspace}") from None
        raise GitError("git is not installed here; dte asks it which files are inputs") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise GitError(f"git {arguments[0]} failed in {workspace}: {said}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Tree:
    """Files by path: `mode sha`, as git writes them (`100644 e69de29…`). A submodule is an entry of its own, its commit, beside
    those of its files where it is checked out.
    """

    entries: Mapping[str, str]
    untracked: frozenset[str] = frozenset()
    notices: tuple[str, ...] = ()
    by_git: bool = True
    """False where there is no git to say what is a source, so that every file is."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """What symbolic links say, as `Links` takes it."""
    links: Links = field(init=False, repr=False, compare=False)
    paths: Sequence[str] = field(init=False, repr=False, compare=False)
    """All paths in order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", sorted(self.entries))
        here = {path: text for path, text in self.texts.items() if path in self.entries}
        object.__setattr__(self, "links", Links(here))

    def matching(self, patterns: Sequence[str]) -> Iterator[str]:
        """The paths that `patterns` mean, each once."""
        meant = Globs(patterns)
        for prefix in meant.prefixes:
            yield from (path for path in within(self.paths, prefix) if self._is_meant(path, path, meant))

    def read(self, patterns: Sequence[str], made: frozenset[str] = frozenset()) -> Iterator[str]:
        """What a task with these inputs reads, each once: what they mean, and what is behind the links among that; nothing of what is `made`."""
        found = dict.fromkeys(path for path in self.matching(patterns) if path not in made)
        if self.links:
            found |= dict.fromkeys(self._behind(patterns, made))
        yield from found

    def _behind(self, patterns: Sequence[str], made: frozenset[str]) -> Mapping[str, None]:
        """What is behind a link is an input where it would be one in the link's place; behind a link that is found there, all is. What is taken away by its
        own name stays away.
        """
        meant, left = Globs(patterns), Globs(("**", *patterns))
        found: dict[str, None] = {}
        waiting: list[str] = []
        followed: dict[str, None] = {}
        for link in dict.fromkeys(link for prefix in meant.prefixes for link in self.links.under(prefix)):
            if link not in made and (meant.match(link) or meant.may_contain(link)):
                passed, below = self._follow(link)
                seen = [
                    path
                    for path, inner in below
                    if self._is_meant(path, f"{link}{inner}", meant)
                    or (path in self.links and meant.may_contain(f"{link}{inner}"))
                ]
                found |= dict.fromkeys((*passed, *seen) if seen else ())
                waiting += seen
        while waiting:
            link = waiting.pop()
            if link in self.links and link not in followed and link not in made and left.match(link):
                followed[link] = None
                passed, below = self._follow(link)
                found |= dict.fromkeys(passed)
                found |= dict.fromkeys(path for path, _ in below)
                waiting += [path for path, _ in below]
        return {path: None for path in found if left.match(path) and path not in made}

    def _follow(self, link: str) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
        """The links on the way, and what is behind them, each with what its name there has after the link's."""
        passed, target = self.links.follow(link)
        below = () if target is None else within(self.paths, target)
        return passed, [(path, path[len(target) :] if target else f"/{path}") for path in below]

    def _is_meant(self, path: str, place: str, meant: Globs) -> bool:
        """Whether `path`, which is seen at `place`, matches; of a submodule also whether the whole inside of it does."""
        return meant.match(place) or (self.is_submodule(path) and meant.match(f"{place}/"))

    def is_submodule(self, path: str) -> bool:
        return self.entries.get(path, "").startswith(_GITLINK)


def working_tree(workspace: Path) -> Tree:
    """All of `workspace` that git knows or would add, as it is on disk; without git, all files. Raises `UsageError`."""
    try:
        tree = _scan(workspace, SUBMODULE_DEPTH_MAX)
    except GitError as error:
        if _NOT_A_REPOSITORY.decode() not in str(error) and "not installed" not in str(error):
            raise
        entries = {
            _shown(os.fsencode(path.relative_to(workspace))): _on_disk(path, "sha1") for path in _walk(workspace)
        }
        tree = Tree(
            {path: entry for path, entry in entries.items() if entry},
            frozenset(entries),
            (f"{workspace}: {_reason(error)}, so every file in it is an input (there is no .gitignore to go by)",),
            by_git=False,
        )
    texts = {path: _text(workspace / path) for path in tree.paths if tree.entries[path].startswith(_LINK)}
    return replace(tree, texts=_leads(workspace, texts))


def commit_tree(workspace: Path, commit: str) -> Tree:
    """The workspace's files as they are in `commit`; those of a submodule where it is checked out and has the commit that is meant."""
    entries, texts = _listed(workspace, commit, SUBMODULE_DEPTH_MAX)
    return Tree(entries, texts=_leads(workspace, texts))


def _listed(workspace: Path, commit: str, depth: int) -> tuple[dict[str, str], dict[str, bytes]]:
    """Entries by path, and what links say."""
    entries: dict[str, str] = {}
    links: dict[str, str] = {}
    submodules: dict[bytes, str] = {}
    for line in _split(git(workspace, "ls-tree", "-r", "-z", commit)):
        about, path = line.split(b"\t", 1)
        mode, _, sha = about.decode().split(" ")
        entries[_shown(path)] = f"{mode} {sha}"
        if mode == _LINK:
            links[_shown(path)] = sha
        elif mode == _GITLINK and depth:
            submodules[path] = sha
    texts = dict(zip(links, _blobs(workspace, links.values()), strict=True))
    for path, sha in submodules.items():
        inside = workspace / os.fsdecode(path)
        if (inside / ".git").exists():
            with suppress(GitError):  # it has not fetched that commit
                found, said = _listed(inside, sha, depth - 1)
                entries |= {f"{_shown(path)}/{name}": entry for name, entry in found.items()}
                texts |= {f"{_shown(path)}/{name}": text for name, text in said.items()}
    return entries, texts


def _blobs(workspace: Path, shas: Collection[str]) -> Iterator[bytes]:
    data = git(workspace, "cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode()) if shas else b""
    while data:
        head, _, rest = data.partition(b"\n")
        size = int(head.split(b" ")[2])
        yield rest[:size]
        data = rest[size + 1 :]


def _text(link: Path) -> bytes:
    """What a link says; nothing where there is none, as in a checkout on a disk without links."""
    try:
        return os.fsencode(link.readlink())
    except OSError:
        return b""


def _leads(workspace: Path, texts: Mapping[str, bytes]) -> dict[str, str]:
    """What links say as `Links` takes it, without those of which that alone tells that they lead elsewhere."""
    root = os.fsencode(workspace.resolve())
    inside: dict[str, str] = {}
    for path, text in texts.items():
        if text.startswith(root + b"/"):
            inside[path] = _shown(text.removeprefix(root))
        elif text and not text.startswith(b"/"):
            inside[path] = _shown(text)
    return inside


def _reason(error: GitError) -> str:
    return "git is not installed" if "not installed" in str(error) else "is not in a git repository"


def _split(data: bytes) -> list[bytes]:
    return data.split(b"\0")[:-1]


def _shown(path: bytes) -> str:
    """A path as text; where it is no UTF-8 the odd bytes are spelled out, for a manifest must be JSON."""
    return path.decode("utf-8", "backslashreplace")


def _scan(workspace: Path, depth: int) -> Tree:
    entries: dict[bytes, str] = {}
    doubtful: dict[bytes, None] = {}
    links: dict[bytes, None] = {}
    for line in _split(git(workspace, "ls-files", "-s", "-v", "-z")):
        about, path = line.split(b"\t", 1)
        tag, mode, sha, _ = about.decode().split(" ")
        entries[path] = f"{mode} {sha}"
        if mode == _GITLINK:
            links[path] = None
        elif tag != "H":  # not checked out (S), unmerged (M), or promised to be unchanged (h): the disk knows
            doubtful[path] = None
    doubtful.update(dict.fromkeys(path for path in _split(git(workspace, "ls-files", "-m", "-z")) if path not in links))
    untracked = _split(git(workspace, "ls-files", "-o", "--exclude-standard", "-z"))
    notices = [
        f"{_shown(path)} is a git repository of its own, so its files are no inputs of any task; a submodule would be"
        for path in untracked
        if path.endswith(b"/")
    ]
    new = [path for path in untracked if not path.endswith(b"/")]
    algorithm = "sha256" if any(len(entry) > _SHA256_CHARS for entry in entries.values()) else "sha1"
    found = _read(workspace, [*doubtful, *new], algorithm)
    for path in (*doubtful, *new):
        if path in found:
            entries[path] = found[path]
        else:
            entries.pop(path, None)
    named = {_shown(path): entry for path, entry in entries.items()}
    fresh = {_shown(path) for path in new}
    for path in links:
        inner = _submodule(workspace, path, depth)
        if inner is None:
            notices.append(f"submodule {_shown(path)} is not checked out: git submodule update --init {_shown(path)}")
        else:
            head = git(workspace / os.fsdecode(path), "rev-parse", "HEAD").decode().strip()
            named[_shown(path)] = f"{_GITLINK} {head}"
            named |= {f"{_shown(path)}/{name}": entry for name, entry in inner.entries.items()}
            fresh |= {f"{_shown(path)}/{name}" for name in inner.untracked}
            notices.extend(inner.notices)
    return Tree(named, frozenset(fresh), tuple(notices))


def _submodule(workspace: Path, path: bytes, depth: int) -> Tree | None:
    inside = workspace / os.fsdecode(path)
    if not (inside / ".git").exists():
        return None
    if depth == 0:
        raise UsageError(f"{inside}: submodules are nested more than {SUBMODULE_DEPTH_MAX} deep")
    return _scan(inside, depth - 1)


def _read(workspace: Path, paths: Sequence[bytes], algorithm: str) -> dict[bytes, str]:
    """The entries of `paths` as git would add them now; what is not there any more is left out."""
    entries: dict[bytes, str] = {}
    files: list[tuple[bytes, str]] = []
    for path in paths:
        mode = _mode(workspace / os.fsdecode(path))
        if mode == _LINK:
            entries[path] = _on_disk(workspace / os.fsdecode(path), algorithm)
        elif mode:
            files.append((path, mode))
    if files:
        # `--stdin-paths` takes its paths from the top of the repository, wherever it is started.
        prefix = git(workspace, "rev-parse", "--show-prefix").removesuffix(b"\n")
        top = workspace.joinpath(*[".."] * prefix.count(b"/"))
        asked = b"".join(_quoted(prefix + path) + b"\n" for path, _ in files)
        shas = git(top, "hash-object", "--stdin-paths", stdin=asked).decode().split()
        entries |= {path: f"{mode} {sha}" for (path, mode), sha in zip(files, shas, strict=True)}
    return entries


def _mode(path: Path) -> str:
    """The mode git would give what is at `path`; "" for what it does not keep."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISLNK(mode):
        return _LINK
    return (_PROGRAM if mode & stat.S_IXUSR else _PLAIN) if stat.S_ISREG(mode) else ""


def _on_disk(path: Path, algorithm: str) -> str:
    """The entry of a file or link without git's filters; "" for what git does not keep."""
    mode = _mode(path)
    try:
        if mode == _LINK:
            target = os.fsencode(path.readlink())
            digest = hashlib.new(algorithm, b"blob %d\0" % len(target) + target, usedforsecurity=False)
        elif mode:
            with path.open("rb") as file:
                digest = hashlib.new(algorithm, b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        else:
            return ""
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return f"{mode} {digest.hexdigest()}"


def _walk(workspace: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(workspace):
        names[:] = [name for name in names if name != ".git"]
        here = Path(directory)
        yield from (here / name for name in files if name != ".git")
        yield from (here / name for name in names if (here / name).is_symlink())


def _quoted(path: bytes) -> bytes:
    """A path as `--stdin-paths` takes any: quoted the way C does, since a name may hold a line's end."""
    escaped = b"".join(b"\\%03o" % byte if byte < 0x20 or byte in b'"\\' else bytes((byte,)) for byte in path)
    return b'"' + escaped + b'"'
