"""A scenario replayed and compared with its recording."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.corpus import compare
from tests.corpus.compare import Differing, Facts
from tests.corpus.replay import Replay
from tests.corpus.scenario import Scenario
from tests.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Every difference, deliberate or not, state by state; `notes` tell where the replay had to guess."""

    differing: tuple[Differing, ...]
    notes: tuple[str, ...] = ()


def judge(scenario: Scenario, folder: Path) -> Judgement:
    """Replay a scenario in an empty folder and compare.

    Raises:  NotAScenario for a step that cannot be replayed.
    """
    world = World(folder=folder)
    try:
        replay = Replay(world, scenario)
        replay.run()
        world.is_sound()
        return Judgement(differing=tuple(_compared(scenario, replay)), notes=tuple(replay.notes))
    finally:
        world.ends()


def _compared(scenario: Scenario, replay: Replay) -> Iterator[Differing]:
    recorded = dict(_recorded(scenario))
    for label in [*recorded, *(one for one in replay.facts if one not in recorded)]:
        asked = recorded.get(label, {})
        ours = {where: text for where, text in replay.facts.get(label, {}).items() if _is_asked(where, asked)}
        for one in compare.differing(scenario.name, asked, ours):
            yield Differing(scenario=one.scenario, where=f"[{label}] {one.where}", recorded=one.recorded, ours=one.ours)
    waves = compare.recorded_waves(scenario.result.get("timeline") or {})
    yield from compare.differing(scenario.name, _whole(waves), _whole(replay.waves()))


def _is_asked(where: str, recorded: Facts) -> bool:
    """Leave out the placements that were not recorded in a state; runs and requests always were, if there were any."""
    kind, _, rest = where.partition(" ")
    name = rest.partition(":")[0].partition(",")[0]
    return kind not in compare.PLACEMENTS or f"{kind} {name}" in recorded


def _recorded(scenario: Scenario) -> Iterator[tuple[str, Facts]]:
    for label, objects in scenario.states():
        yield label, compare.facts(objects)
    for case in scenario.result.get("cases", ()):
        yield case["case"], compare.refusal(case)
    for vector in scenario.result.get("vectors", ()):
        yield vector["name"], {"hash": vector["hash"]}


def _whole(waves: Facts) -> Facts:
    return {where: text for where, text in waves.items() if text}
