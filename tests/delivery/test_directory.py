"""What is particular to members that are folders: paths, links, locks, people's files and the disk's own words."""

import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from reconciler import private
from reconciler.core.actions import ApplyOptions, Content, Reason, Report
from reconciler.core.model import Body
from reconciler.delivery import BACKENDS, directory, open_delivery
from reconciler.delivery.base import Delivery, FencedDelivery, key_of
from reconciler.delivery.directory import DirectoryStore
from reconciler.documents import yaml
from reconciler.errors import PermanentError, TemporaryError, UsageError
from tests.delivery.benches import (
    NAMESPACE,
    NEW,
    OLD,
    OTHER,
    REPOSITORY,
    TEAM,
    WEB,
    Bench,
    Door,
    config_map,
    content,
    directory_bench,
    fence,
    held_by,
)


def member(folder: Path, *, create: bool = True) -> Delivery:
    return FencedDelivery(DirectoryStore(folder, create=create))


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}


def named(name: str, kind: str = "ClusterRole", group: str = "rbac.authorization.k8s.io", namespace: str = "") -> Body:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": metadata}


# -- what is on the disk


def test_each_object_has_the_file_that_its_name_says_and_each_placement_a_dot_file(tmp_path: Path) -> None:
    delivery = member(tmp_path / "member1")
    delivery.deliver(WEB, OLD, fence(1))
    delivery.deliver(TEAM, content("team", config_map("team")), fence(2))
    assert files(tmp_path / "member1") == {
        ".reconciler/lock",
        ".reconciler/_cluster/web.json",
        ".reconciler/shop/web.json",
        "_cluster/Namespace/shop.yaml",
        "_cluster/ClusterRole.rbac.authorization.k8s.io/system:leaves.yaml",
        "shop/ConfigMap/kept.yaml",
        "shop/ConfigMap/leaves.yaml",
        "shop/ConfigMap/team.yaml",
    }


def test_a_file_holds_the_object_as_yaml(tmp_path: Path) -> None:
    member(tmp_path).deliver(WEB, OLD, fence(1))
    assert (tmp_path / "shop/ConfigMap/kept.yaml").read_text() == yaml.dump(config_map("kept"))


def test_the_inventory_is_readable(tmp_path: Path) -> None:
    member(tmp_path).deliver(WEB, content("hash", NAMESPACE), fence(7, epoch=2))
    assert json.loads((tmp_path / ".reconciler/_cluster/web.json").read_text()) == {
        "format": 1,
        "placement": {
            "group": "placement.kubernetes-fleet.io",
            "kind": "ClusterResourcePlacement",
            "namespace": "",
            "name": "web",
        },
        "repository": REPOSITORY,
        "epoch": 2,
        "seq": 7,
        "complete": "hash",
        "objects": [{"group": "", "kind": "Namespace", "namespace": "", "name": "shop"}],
    }


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    delivery = member(tmp_path)
    delivery.deliver(WEB, OLD, fence(1))
    namespace, kept = tmp_path / "_cluster/Namespace/shop.yaml", tmp_path / "shop/ConfigMap/kept.yaml"
    before = namespace.stat(), kept.stat()
    delivery.deliver(WEB, NEW, fence(2))
    assert namespace.stat().st_ino == before[0].st_ino
    assert kept.stat().st_ino != before[1].st_ino


def test_folders_that_become_empty_go_and_others_stay(tmp_path: Path) -> None:
    delivery = member(tmp_path)
    delivery.deliver(WEB, OLD, fence(1))
    (tmp_path / "shop/notes.txt").write_text("mine")
    delivery.withdraw(WEB, fence(2))
    assert {path.name for path in tmp_path.iterdir()} == {".reconciler", "shop"}
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["notes.txt"]


def test_what_a_crash_left_half_written_is_used_again_and_never_stays(tmp_path: Path) -> None:
    delivery = member(tmp_path)
    half = tmp_path / "shop/ConfigMap/.partial"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    delivery.deliver(WEB, OLD, fence(1))
    assert not half.exists()
    half.write_text("half")
    delivery.withdraw(WEB, fence(2))
    assert files(tmp_path) == {".reconciler/lock", ".reconciler/_cluster/web.json"}


# -- names that would lead elsewhere


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(named("../../escape"), id="a name with separators"),
        pytest.param(named(".."), id="a name that is the parent"),
        pytest.param(named("a\x00b"), id="a name with a NUL"),
        pytest.param(named("n" * 251), id="a name longer than a file name may be"),
        pytest.param(named("x", kind="../.."), id="a kind with separators"),
        pytest.param(named("x", group="../up"), id="a group with separators"),
        pytest.param(named("x", kind="ConfigMap", group="", namespace="../other"), id="a namespace with separators"),
        pytest.param(named("x", kind="ConfigMap", group="", namespace=".reconciler"), id="our own folder"),
        pytest.param(named("x", kind="ConfigMap", group="", namespace="_cluster"), id="the folder without namespace"),
    ],
)
def test_an_object_whose_name_would_lead_elsewhere_is_refused_alone(tmp_path: Path, body: Body) -> None:
    good = config_map("good")
    report = member(tmp_path / "m").deliver(WEB, content("both", body, good), fence(1))
    assert (report.complete, report.reason, len(report.results)) == (None, Reason.REFUSED, 1)
    assert files(tmp_path) == {"m/.reconciler/lock", "m/.reconciler/_cluster/web.json", "m/shop/ConfigMap/good.yaml"}


def test_a_name_that_led_elsewhere_is_not_deleted_either(tmp_path: Path) -> None:
    """An inventory that somebody edited is no way out of the member's folder."""
    victim = tmp_path / "victim.yaml"
    victim.write_text("mine")
    delivery = member(tmp_path / "m")
    delivery.deliver(WEB, OLD, fence(1))
    inventory = tmp_path / "m/.reconciler/_cluster/web.json"
    inventory.write_text(inventory.read_text().replace("system:leaves", "../../../victim"))
    report = delivery.withdraw(WEB, fence(2))
    assert report.reason is Reason.REFUSED
    assert victim.read_text() == "mine"


def test_no_symbolic_link_inside_the_member_is_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "m"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "shop").symlink_to(elsewhere)
    report = member(folder).deliver(WEB, OLD, fence(1))
    assert report.reason is Reason.REFUSED
    assert "goes through a symbolic link" in report.message
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_an_objects_place_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "m"
    victim.write_text("mine")
    (folder / "shop/ConfigMap").mkdir(parents=True)
    (folder / "shop/ConfigMap/kept.yaml").symlink_to(victim)
    assert member(folder).deliver(WEB, OLD, fence(1)).reason is Reason.AVAILABLE
    assert victim.read_text() == "mine"
    assert not (folder / "shop/ConfigMap/kept.yaml").is_symlink()


def test_a_link_to_the_very_same_text_is_not_the_object(tmp_path: Path) -> None:
    """What it points to may change without anybody touching the member."""
    delivery, file = member(tmp_path / "m"), tmp_path / "m/shop/ConfigMap/kept.yaml"
    delivery.deliver(WEB, OLD, fence(1))
    file.rename(tmp_path / "moved.yaml")
    file.symlink_to(tmp_path / "moved.yaml")
    assert delivery.observe(WEB, OLD, fence(1)).message == "is missing"
    assert delivery.deliver(WEB, OLD, fence(1)).reason is Reason.AVAILABLE
    assert not file.is_symlink()


def test_our_own_folder_as_a_link_is_refused(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "m"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / ".reconciler").symlink_to(elsewhere)
    assert member(folder).deliver(WEB, OLD, fence(1)).reason is Reason.REFUSED
    assert list(elsewhere.iterdir()) == []


def test_a_member_folder_that_is_a_link_is_the_operators_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "m").symlink_to(tmp_path / "real")
    assert member(tmp_path / "m", create=False).deliver(WEB, OLD, fence(1)).reason is Reason.AVAILABLE
    assert (tmp_path / "real/shop/ConfigMap/kept.yaml").exists()


# -- a folder that is not as it should be


def test_a_missing_folder_is_out_of_reach_unless_it_may_be_created(tmp_path: Path) -> None:
    delivery = member(tmp_path / "m", create=False)
    said = f"member folder: No such file or directory: {tmp_path / 'm'}"
    for report in (
        delivery.deliver(WEB, OLD, fence(1)),
        delivery.observe(WEB, OLD, fence(1)),
        delivery.withdraw(WEB, fence(1)),
    ):
        assert (report.complete, report.reason, report.message) == (None, Reason.UNREACHABLE, said)
    assert delivery.describe() == {"reachable": False, "message": said, "inventories": {}}
    with pytest.raises(TemporaryError, match="No such file"):
        delivery.highest_epoch(REPOSITORY)
    assert list(tmp_path.iterdir()) == []
    assert member(tmp_path / "m").deliver(WEB, OLD, fence(1)).reason is Reason.AVAILABLE


def test_looking_at_a_missing_folder_does_not_create_it(tmp_path: Path) -> None:
    delivery = member(tmp_path / "m")
    assert delivery.observe(WEB, OLD, fence(1)).reason is Reason.INCOMPLETE
    assert delivery.highest_epoch(REPOSITORY) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_file_in_the_folders_place_is_told_in_the_systems_words(tmp_path: Path, create: bool) -> None:  # noqa: FBT001
    (tmp_path / "m").write_text("not a folder")
    report = member(tmp_path / "m", create=create).deliver(WEB, OLD, fence(1))
    assert report.reason is Reason.UNREACHABLE
    assert "Not a directory" in report.message


def test_a_full_disk_is_told_in_the_systems_words_and_healed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    delivery = member(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(directory, "_sync", full)
        report = delivery.deliver(WEB, OLD, fence(1))
    assert report.reason is Reason.UNREACHABLE
    assert "No space left on device" in report.message
    assert delivery.deliver(WEB, OLD, fence(1)).reason is Reason.AVAILABLE


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": 2}', "\udcff"],
    ids=["empty", "cut", "a list", "without fields", "of a later format", "not text"],
)
def test_a_damaged_inventory_stops_everything_on_that_member(tmp_path: Path, text: str) -> None:
    """Deletes and ownership follow from it; nothing is guessed, for the other placements neither."""
    bench = directory_bench(tmp_path)
    bench.delivery.deliver(WEB, OLD, fence(1))
    (tmp_path / ".reconciler/_cluster/web.json").write_text(text, errors="surrogateescape")
    reports = [
        bench.delivery.deliver(WEB, NEW, fence(2)),
        bench.delivery.withdraw(WEB, fence(2)),
        bench.delivery.deliver(OTHER, content("x", config_map("x")), fence(2)),
    ]
    assert [report.reason for report in reports] == [Reason.REFUSED] * 3
    assert "web.json" in reports[2].message
    assert bench.objects() == held_by(OLD)
    assert bench.delivery.describe()["reachable"] is True
    with pytest.raises(PermanentError):
        bench.delivery.highest_epoch(REPOSITORY)


def test_an_inventory_of_another_placement_under_our_name_is_refused(tmp_path: Path) -> None:
    bench = directory_bench(tmp_path)
    bench.delivery.deliver(OTHER, OLD, fence(1))
    (tmp_path / ".reconciler/_cluster/other.json").rename(tmp_path / ".reconciler/_cluster/web.json")
    report = bench.delivery.deliver(WEB, NEW, fence(2))
    assert report.reason is Reason.REFUSED
    assert str(OTHER) in report.message


# -- two at a time


def test_a_lock_that_another_process_keeps_is_given_up_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.05)
    delivery = member(tmp_path)
    delivery.deliver(WEB, OLD, fence(1))
    with (tmp_path / ".reconciler/lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = delivery.deliver(WEB, NEW, fence(2))
    assert report.reason is Reason.UNREACHABLE
    assert "another process holds" in report.message
    assert delivery.deliver(WEB, NEW, fence(2)).reason is Reason.AVAILABLE


def test_an_object_of_an_older_intent_is_not_written_once_a_newer_one_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be delivered again for that: not one object comes too late."""
    bench = directory_bench(tmp_path)
    plain, calls = DirectoryStore._apply, []

    def apply(store: DirectoryStore, body: Body, check_fence: Callable[[], None]) -> object:
        calls.append(body)
        if len(calls) == 2:
            bench.delivery.deliver(WEB, NEW, fence(3))
        return plain(store, body, check_fence)

    monkeypatch.setattr(DirectoryStore, "_apply", apply)
    report = bench.delivery.deliver(WEB, OLD, fence(2))
    assert report.reason is Reason.FENCE_LOST
    assert "up to 1 objects were written" in report.message
    assert bench.objects() == held_by(NEW)
    assert bench.delivery.observe(WEB, NEW, fence(3)).reason is Reason.AVAILABLE


def test_no_newer_intent_can_begin_while_an_object_is_written(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.02)
    bench, newer = directory_bench(tmp_path), []

    def perform(kind: str, what: str, effect: Callable[[], object]) -> object:
        if what.startswith("write ConfigMap"):
            newer.append(bench.delivery.deliver(WEB, NEW, fence(3)).reason)
        return effect()

    monkeypatch.setattr("reconciler.effects.perform", perform)
    assert bench.delivery.deliver(WEB, OLD, fence(2)).reason is Reason.AVAILABLE
    assert newer == [Reason.UNREACHABLE] * 2


def test_an_older_delivery_never_writes_an_object_after_a_newer_one_has_begun(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence is read under the lock that the newer intent needs to move it, so no stray write is possible."""
    for number in range(10):
        bench = directory_bench(tmp_path / str(number))
        bench.delivery.deliver(WEB, OLD, fence(1))
        race(
            lambda bench=bench: bench.delivery.deliver(WEB, content("two", *OLD.objects), fence(2)),
            lambda bench=bench: bench.delivery.deliver(WEB, NEW, fence(3)),
        )
        assert bench.objects() == held_by(NEW)
        assert bench.delivery.observe(WEB, NEW, fence(3)).reason is Reason.AVAILABLE


def race(*calls: Callable[[], object]) -> None:
    start = Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        start.wait()
        call()

    threads = [Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_placements_delivered_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    bench: Bench = directory_bench(tmp_path)
    mine, theirs = content("mine", config_map("mine")), content("theirs", config_map("theirs"))
    race(
        lambda: bench.delivery.deliver(WEB, mine, fence(1)),
        lambda: bench.delivery.deliver(OTHER, theirs, fence(1)),
    )
    assert bench.objects() == held_by(mine, theirs)
    assert key_of(mine.objects[0]) in bench.objects()


# -- settings


def test_a_member_is_a_folder_under_the_root(tmp_path: Path) -> None:
    delivery = open_delivery("member1", {"type": "directory", "root": str(tmp_path), "create": True})
    delivery.deliver(WEB, OLD, fence(1))
    assert [path.name for path in tmp_path.iterdir()] == ["member1"]
    assert delivery.describe()["folder"] == str(tmp_path / "member1")


def test_a_folder_is_not_created_unless_the_settings_say_so(tmp_path: Path) -> None:
    delivery = open_delivery("member1", {"type": "directory", "root": tmp_path})
    assert delivery.deliver(WEB, OLD, fence(1)).reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "type None is unknown; known types are directory"),
        ({"type": "ftp"}, "type 'ftp' is unknown"),
        ({"type": "directory"}, "needs root"),
        ({"type": "directory", "root": ""}, "needs root"),
        ({"type": "directory", "root": "x", "create": "yes"}, "create is true or false, not 'yes'"),
        ({"type": "directory", "root": "x", "roots": 1, "mode": 2}, "takes no setting mode, roots"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_delivery("member1", settings)


@pytest.mark.parametrize("cluster", ["..", "a/b", ".hidden", ""])
def test_a_cluster_name_that_is_no_folder_name_is_refused(cluster: str) -> None:
    with pytest.raises(UsageError, match="cannot be a folder"):
        open_delivery(cluster, {"type": "directory", "root": "x"})


def test_every_backend_in_the_table_can_be_imported() -> None:
    for name in BACKENDS:
        with pytest.raises(UsageError):
            open_delivery("member1", {"type": name, "no such setting": 1})


# -- files that were there first


def delivered_if_equal(folder: Path, body: Body) -> Report:
    options = ApplyOptions(take_over="IfNoDiff")
    return member(folder).deliver(WEB, Content(hash="h", objects=(body,), options=options), fence(1))


def put(folder: Path, text: str, file: str = "shop/ConfigMap/a.yaml") -> Path:
    path = folder / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_an_equal_object_in_another_form_is_taken_over(tmp_path: Path) -> None:
    body = config_map("a")
    file = put(tmp_path, "# by hand\n" + json.dumps(body, indent=3))
    assert delivered_if_equal(tmp_path, body) == Report(complete="h", reason=Reason.AVAILABLE)
    assert file.read_text() == yaml.dump(body)


@pytest.mark.parametrize("text", ["a: [", "--- 1\n--- 2\n", ""], ids=["no YAML", "two documents", "empty"])
def test_a_file_that_is_not_one_object_differs_as_a_whole(tmp_path: Path, text: str) -> None:
    file = put(tmp_path, text)
    report = delivered_if_equal(tmp_path, config_map("a"))
    assert (report.reason, report.complete) == (Reason.CONFLICT, None)
    assert report.message == "it is there already and differs at .; it is left"
    assert file.read_text() == text


def test_a_link_that_was_there_first_is_left(tmp_path: Path) -> None:
    target = put(tmp_path, yaml.dump(config_map("a")), "elsewhere/a.yaml")
    link = tmp_path / "shop/ConfigMap/a.yaml"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert delivered_if_equal(tmp_path, config_map("a")).reason is Reason.CONFLICT
    assert link.is_symlink()


def test_a_secret_that_differs_is_named_by_its_fields_and_never_by_its_values(tmp_path: Path) -> None:
    theirs = {**named("a", kind="Secret", group="", namespace="shop"), "data": {"password": "aHVudGVyMg=="}}
    put(tmp_path, yaml.dump(theirs), "shop/Secret/a.yaml")
    report = delivered_if_equal(tmp_path, {**theirs, "data": {"password": "dHIwdWI0ZG9y"}})
    assert report.message == "it is there already and differs at .data.password; it is left"
    assert "aHVudGVyMg" not in repr(report)
    assert "dHIwdWI0ZG9y" not in repr(report)


def test_a_name_that_cannot_be_a_file_is_refused_whatever_the_rule_for_strangers(tmp_path: Path) -> None:
    report = delivered_if_equal(tmp_path, named("a/b"))
    assert (report.reason, report.complete) == (Reason.REFUSED, None)


def test_the_file_of_a_secret_is_its_owner_s_alone(tmp_path: Path) -> None:
    member = open_delivery("member1", {"type": "directory", "root": str(tmp_path), "create": True})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "app"}}
    member.deliver(WEB, content("secret", secret, config_map("shared")), fence(1))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) & 0o077 for file in tmp_path.rglob("*.yaml")}
    assert modes["s.yaml"] == 0
    assert modes["shared.yaml"] != 0


def test_only_secrets_are_ours_alone_on_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else applies the folder: what a service writes for itself alone does not concern it."""
    monkeypatch.setattr(private, "operators_umask", 0o022)
    before = os.umask(0o077)
    try:
        objects = (NAMESPACE, config_map("kept"), named("s", kind="Secret", group="", namespace="shop"))
        member(tmp_path / "members" / "m").deliver(WEB, content("hash", *objects), fence(1))
    finally:
        os.umask(before)
    found = [one for one in (tmp_path / "members").rglob("*") if ".reconciler" not in one.parts]
    assert {one.stat().st_mode & 0o777 for one in found if one.is_dir()} == {0o755}
    modes = {one.parent.name: one.stat().st_mode & 0o777 for one in found if one.is_file()}
    assert modes == dict.fromkeys(modes, 0o644) | {"Secret": 0o600}
