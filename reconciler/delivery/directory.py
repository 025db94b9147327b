"""Members that are folders: one YAML file per object, and a dot-file per placement for its inventory.

```
<member>/<namespace or _cluster>/<Kind>[.<group>]/<name>.yaml
<member>/.reconciler/<namespace or _cluster>/<placement>.json
```

Every write and delete of a member happens under one lock file, and the fence is read again under that lock, so
two daemons never interleave on an object. Files that no inventory lists are people's: never deleted, and replaced
only by an object of the same name. Here nothing follows a symbolic link inside the member.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reconciler import effects
from reconciler.clock import monotonic, sleep
from reconciler.core.actions import Fence, ObjectResult, Reason
from reconciler.core.model import Body, Key
from reconciler.delivery.base import Delivery, FencedDelivery, Held, Inventory, differences, is_secret, key_of
from reconciler.documents import yaml
from reconciler.errors import PermanentError, TemporaryError, UsageError
from reconciler.private import make_shared, shared_mode
from reconciler.redact import line

OWN_FOLDER = ".reconciler"
CLUSTER_SCOPE = "_cluster"
FORMAT = 1
LOCK_SECONDS = 10.0
_LONGEST_NAME = 255  # bytes, of one path segment, on the file systems in use
_PARTIAL = ".partial"

_SCOPE = re.compile(r"_cluster|[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?")
_NAME = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f]+")


def open_member(cluster: str, settings: Mapping[str, Any]) -> Delivery:
    """Return the delivery into the folder `<root>/<cluster>`; settings: `root`, and `create` (bool, default false).

    Raises UsageError, naming the setting, for anything else.
    """
    unknown = sorted(settings.keys() - {"type", "root", "create"})
    if unknown:
        raise UsageError(f"delivery for cluster {cluster}: a directory member takes no setting {', '.join(unknown)}")
    root, create = settings.get("root"), settings.get("create", False)
    if not isinstance(root, str | Path) or not str(root):
        raise UsageError(f"delivery for cluster {cluster}: a directory member needs root, the folder of its members")
    if not isinstance(create, bool):
        raise UsageError(f"delivery for cluster {cluster}: create is true or false, not {create!r}")
    if not _NAME.fullmatch(cluster) or cluster.startswith("."):
        raise UsageError(f"delivery for cluster {cluster!r}: that name cannot be a folder")
    return FencedDelivery(DirectoryStore(Path(root) / cluster, create=create))


class DirectoryStore:
    """One member folder. With `create` a missing folder is an empty member, else one that is out of reach."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        self._folder = folder
        self._create = create

    @property
    def trust_seconds(self) -> float:
        """Zero: the fence is read for every object, under the lock."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """Return the folder, which is all the identity there is."""
        return {"type": "directory", "folder": str(self._folder)}

    # -- inventories

    def inventories(self) -> Mapping[Key, Inventory]:
        """Return every inventory by its placement."""
        with self._reaching() as root:
            files = sorted((root / OWN_FOLDER).glob("*/*.json"))
            texts = [(file, _text(file)) for file in files]
        return dict(_parse(file, text) for file, text in texts if text)

    def read_inventory(self, placement: Key) -> Held:
        """Return the inventory; its version is its text."""
        with self._reaching() as root:
            file = _inventory_file(root, placement)
            text = _text(file)
        return Held(inventory=_parse_for(placement, file, text) if text else None, version=text)

    def swap_inventory(self, placement: Key, held: Held, inventory: Inventory) -> Held | None:
        """Replace the inventory's file, under the lock, if its text is still the one that was read."""
        with self._reaching() as root, self._locked(root):
            file = _inventory_file(root, placement)
            if _text(file) != held.version:
                return None
            text = _render(placement, inventory)
            _write(file, text.encode(), f"inventory of {placement}")
        return Held(inventory=inventory, version=text)

    # -- objects

    def apply_objects(self, objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Write the files that differ; a name that cannot be a file is refused alone."""
        results = (self._apply(body, check_fence) for body in objects)
        return tuple(result for result in results if result is not None)

    def delete_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Delete the files, and the folders that become empty."""
        results = (self._delete(key, check_fence) for key in keys)
        return tuple(result for result in results if result is not None)

    def release_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Do nothing: a file bears no mark, whose it is says the inventory alone."""
        del keys, check_fence
        return ()

    def strangers(self, objects: tuple[Body, ...]) -> Mapping[Key, tuple[str, ...]]:
        """Return which of these have a file already, and at which paths it is not exactly the object."""
        with self._reaching() as root:
            found = [(key_of(body), _strange(root, body)) for body in objects]
        return {key: paths for key, paths in found if paths is not None}

    def look_at(self, objects: tuple[Body, ...]) -> tuple[ObjectResult, ...]:
        """Tell which files are missing, or hold anything but exactly the object; a file that is there is healthy."""
        with self._reaching() as root:
            results = [_look_at(root, body) for body in objects]
        return tuple(result for result in results if result is not None)

    def _apply(self, body: Body, check_fence: Callable[[], None]) -> ObjectResult | None:
        key, data = key_of(body), _bytes(body)
        with self._reaching() as root, self._locked(root):
            check_fence()
            try:
                file = _object_file(root, key)
            except PermanentError as error:
                return _refused(key, error)
            if _read(file) != data:
                _write(file, data, str(key), mode=0o600 if is_secret(key) else 0o666)
        return None

    def _delete(self, key: Key, check_fence: Callable[[], None]) -> ObjectResult | None:
        with self._reaching() as root, self._locked(root):
            check_fence()
            try:
                file = _object_file(root, key)
            except PermanentError as error:
                return _refused(key, error)
            if file.parent.is_dir():
                effects.perform("member", f"delete {key} in {root}", lambda: _remove(file))
        return None

    # -- the folder

    @contextmanager
    def _reaching(self) -> Iterator[Path]:
        """Give the real folder; whatever the operating system says about it is a TemporaryError with its words."""
        try:
            if not self._create:
                os.scandir(self._folder).close()
            yield self._folder.resolve()
        except OSError as error:
            where = error.filename or self._folder
            raise TemporaryError(f"member folder: {error.strerror or error}: {where}") from error

    @contextmanager
    def _locked(self, root: Path) -> Iterator[None]:
        """Hold the member's lock; the operating system lets go of it when the process dies."""
        folder = _inside(root, OWN_FOLDER, "lock").parent
        if not folder.is_dir():
            effects.perform("member", f"prepare {folder}", lambda: make_shared(folder))
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "r+b") as lock:
            _acquire(lock, folder)
            yield


def _acquire(lock: IO[bytes], folder: Path) -> None:
    deadline = monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                raise TemporaryError(f"another process holds {folder / 'lock'} for over {LOCK_SECONDS:g} s") from None
            sleep(0.01)
        else:
            return


# -- where things are ----------------------------------------------------------------------------------------------


def _object_file(root: Path, key: Key) -> Path:
    kind = f"{key.kind}.{key.group}" if key.group else key.kind
    scope = _scope(key)
    if not (_KIND.fullmatch(kind) and _NAME.fullmatch(key.name)):
        raise PermanentError(f"{key}: kind, group or name cannot be a path in a member folder")
    return _inside(root, scope, kind, f"{key.name}.yaml")


def _inventory_file(root: Path, placement: Key) -> Path:
    if not _NAME.fullmatch(placement.name):
        raise PermanentError(f"{placement}: its name cannot be a path in a member folder")
    return _inside(root, OWN_FOLDER, _scope(placement), f"{placement.name}.json")


def _scope(key: Key) -> str:
    if key.namespace == CLUSTER_SCOPE or not _SCOPE.fullmatch(key.namespace or CLUSTER_SCOPE):
        raise PermanentError(f"{key}: its namespace cannot be a path in a member folder")
    return key.namespace or CLUSTER_SCOPE


def _inside(root: Path, *segments: str) -> Path:
    """Return the path of exactly these segments; a symbolic link on the way would lead elsewhere and is refused."""
    path = root.joinpath(*segments)
    if path.relative_to(root).parts != segments:
        raise PermanentError(f"{'/'.join(segments)} is not a path of {len(segments)} parts in the member folder")
    if any(len(segment.encode()) > _LONGEST_NAME for segment in segments):
        raise PermanentError(f"{segments[-1]} is longer than the {_LONGEST_NAME} bytes that a file name may have")
    if os.path.realpath(path.parent) != str(path.parent):
        raise PermanentError(f"{path.parent} goes through a symbolic link; replace the link by a folder")
    return path


# -- files -----------------------------------------------------------------------------------------------------------


def _read(file: Path) -> bytes | None:
    """Return what the file holds; None when there is none, or something that is no plain file."""
    return None if file.is_symlink() or not file.is_file() else file.read_bytes()


def _write(file: Path, data: bytes, what: str, *, mode: int = 0o666) -> None:
    effects.perform("member", f"write {what} to {file}", lambda: _replace(file, data, mode))


def _replace(file: Path, data: bytes, mode: int) -> None:
    """Bring the file to hold the data, all or nothing, and durably: what follows relies on it being there."""
    make_shared(file.parent)
    partial = file.with_name(_PARTIAL)  # one name for all: the lock is held, and what a crash left is used again
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
        os.fchmod(stream.fileno(), shared_mode(mode))
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    _sync(file.parent)


def _remove(file: Path) -> None:
    file.with_name(_PARTIAL).unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    _sync(file.parent)
    for folder in (file.parent, file.parent.parent):
        if any(folder.iterdir()):
            return
        folder.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes(body: Body) -> bytes:
    return yaml.dump(body).encode()


def _look_at(root: Path, body: Body) -> ObjectResult | None:
    key = key_of(body)
    try:
        found = _read(_object_file(root, key))
    except PermanentError as error:
        return _refused(key, error)
    if found == _bytes(body):
        return None
    said = "is missing" if found is None else "was changed on the member"
    return ObjectResult(object=str(key), reason=Reason.INCOMPLETE, message=said)


def _strange(root: Path, body: Body) -> tuple[str, ...] | None:
    """Return where a file differs from the object, None when there is none; what cannot be read differs as a whole."""
    try:
        file = _object_file(root, key_of(body))
    except PermanentError:
        return None  # refused by name when its turn comes
    if not os.path.lexists(file):
        return None
    read = yaml.read(file.name, _read(file) or b"")
    there = read.documents[0].value if len(read.documents) == 1 and not read.problems else None
    return tuple(differences(body, there))


def _refused(key: Key, error: PermanentError) -> ObjectResult:
    return ObjectResult(object=line(str(key)), reason=Reason.REFUSED, message=line(str(error)))


# -- the inventory's text ----------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    """Return an inventory's text, empty when there is none; an empty or odd file is damage, not absence."""
    if not file.is_symlink() and not file.exists():
        return ""
    data = _read(file)
    if not data:
        raise PermanentError(f"inventory {file} is damaged (empty, or not a plain file); restore it, or delete it")
    return data.decode(errors="replace")


def _render(placement: Key, inventory: Inventory) -> str:
    fence = inventory.fence
    document = {
        "format": FORMAT,
        "placement": _key_document(placement),
        "repository": fence.repository,
        "epoch": fence.epoch,
        "seq": fence.seq,
        "complete": inventory.complete,
        "objects": [_key_document(key) for key in inventory.objects],
    }
    return json.dumps(document, indent=1) + "\n"


def _parse(file: Path, text: str) -> tuple[Key, Inventory]:
    """Read an inventory; one that cannot be read is not guessed at, since deletes follow from it."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise PermanentError(f"inventory {file} has format {document['format']}, which this version does not know")
        fence = Fence(repository=document["repository"], epoch=int(document["epoch"]), seq=int(document["seq"]))
        objects = tuple(Key(**one) for one in document["objects"])
        return Key(**document["placement"]), Inventory(fence=fence, complete=document["complete"], objects=objects)
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentError(
            f"inventory {file} is damaged ({type(error).__name__}); restore it, or delete it"
        ) from error


def _parse_for(placement: Key, file: Path, text: str) -> Inventory:
    owner, inventory = _parse(file, text)
    if owner != placement:
        raise PermanentError(f"inventory {file} is that of {owner}, not of {placement}")
    return inventory


def _key_document(key: Key) -> dict[str, str]:
    return {"group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name}
