"""Rollouts from a merged run to the end."""

import pytest

from reconciler.core.status import When
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World

RUN = manifests.article("clusterstagedupdaterun-example-run")


def test_the_article_rolls_out_stage_by_stage_and_back_again(article: World):
    article.commits("runs/example-run.yaml", RUN, "Roll out value2")
    article.passes()
    assert article.values() == {"member1": None, "member2": None, "member3": None}
    assert article.value("member2", "test-cm") == "value2"
    assert article.stages("example-run") == {"staging": "Waiting", "canary": ""}
    article.passes(seconds=59)
    assert article.stages("example-run") == {"staging": "Waiting", "canary": ""}
    article.passes(seconds=1)
    assert article.started("example-run") == ["member2", "member3", "member1"]
    assert article.stages("example-run") == {"staging": "Succeeded", "canary": "Waiting"}
    assert article.conditions("example-run") == {
        "Initialized": "True UpdateRunInitializedSuccessfully",
        "Progressing": "False UpdateRunWaiting",
    }
    article.approves("example-run", "canary")
    article.passes()
    assert article.conditions("example-run")["Succeeded"] == "True UpdateRunSucceeded"
    assert [article.value(name, "test-cm") for name in article.members] == ["value2"] * 3

    article.commits("runs/example-run-2.yaml", manifests.article("clusterstagedupdaterun-example-run-2"), "Back")
    article.passes(minutes=1)
    article.approves("example-run-2", "canary")
    article.passes()
    assert [article.value(name, "test-cm") for name in article.members] == ["value1"] * 3
    assert article.run("example-run-2").end == "Succeeded"
