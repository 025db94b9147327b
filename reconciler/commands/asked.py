"""What `describe cluster` adds when the member can be asked: who answers, what is there, what of it is not well."""

from reconciler.commands.members import Answer, Running, ask_all, asking, unreachable, unwell_of
from reconciler.commands.opening import Fleet
from reconciler.commands.present import fields, small_table
from reconciler.settings import Settings


def member_lines(fleet: Fleet, cluster: str, settings: Settings) -> list[str]:
    """Ask a member, and return what it said."""
    answers = ask_all([cluster], asking(fleet, settings, thoroughly=True))
    return _lines(answers.get(cluster) or unreachable("it was not asked"))


def _lines(answer: Answer) -> list[str]:
    names = ("message", "type", "server", "folder", "version", "uid", "user")
    titles = {"uid": "Cluster UID"}
    pairs = [(titles.get(name, name.capitalize()), answer.fact(name)) for name in names if answer.fact(name)]
    lines = ["Member:", *fields([("Reachable", _yes(answer.reachable)), *pairs], "  ")]
    there = [one for one in answer.running if one.objects]  # an emptied inventory only keeps the fence
    nothing = "  <none>" if answer.reachable else "  <unknown>"
    lines.append("On The Member:" + ("" if there else nothing))
    if there:
        header = ("Placement", "Snapshot", "Hash", "Since Run", "Complete", "Objects", "As Delivered")
        lines += small_table(header, (_row(answer, one) for one in there))
    unwell = list(unwell_of(answer))
    if unwell:
        lines += ["Not As Delivered:", *small_table(("Placement", "Object", "Why"), unwell)]
    return lines


def _row(answer: Answer, running: Running) -> tuple[str, ...]:
    report = answer.reports.get(running.placement)
    return (
        running.placement if running.ours else f"{running.placement} (another repository's)",
        "" if running.index is None else str(running.index),
        (running.hash or "")[:7],
        running.run or "<unknown>",
        _yes(running.hash is not None),
        str(running.objects),
        "<unknown>" if report is None else _yes(report.healthy),
    )


def _yes(answer: bool) -> str:
    return "Yes" if answer else "No"
