"""Which messages are reverts, as git and the forges write them."""

import pytest

from reconciler.core.reverts import reverted_ids, reverts_title, titles

ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("message", "ids"),
    [
        (f'Revert "x"\n\nThis reverts commit {ID}.', (ID,)),
        (f'Revert "Merge branch x"\n\nThis reverts commit {ID}, reversing\nchanges made to {"f" * 40}.', (ID,)),
        (f"Undo\n\nThis reverts commit {ID[:7]}.\nThis reverts commit {'a' * 40}.", (ID[:7], "a" * 40)),
        (f'Reapply "x"\n\nThis reverts commit {ID}.', (ID,)),
        (f"This reverts commit {ID[:8]} (do this and that, 2022-04-25)", (ID[:8],)),
        (f"revert {ID}\n\nrevert Roll out v2", (ID,)),
        (f"Revert 'x'\n\nReverted commit `{ID[:8]}`.", (ID[:8],)),
        (f"This reverts commit {ID[:6]}.", ()),
        ("Revert the colour", ()),
        (f"See {ID}", ()),
        (f"revert {ID[:10]} perhaps", ()),
    ],
)
def test_the_sentence_names_the_commits(message: str, ids: tuple[str, ...]):
    assert reverted_ids(message) == ids


FORGES = [
    # what brought the run, what removed it, and whether that is a revert
    ("Merge pull request #12 from a/v2\n\nRoll out v2", 'Revert "Roll out v2" (#13)\n\nReverts a/fleet#12', True),
    (
        "Merge pull request #12 from a/v2\n\nRoll out v2",
        'Merge pull request #13 from a/revert-12-v2\n\nRevert "Roll out v2"',
        True,
    ),
    ("Roll out v2 (#12)", 'Revert "Roll out v2" (#13)', True),
    ("Roll out v2 (#12)", 'Revert "Roll out v2 (#12)" (#13)', True),
    (
        "Merge branch 'v2' into 'main'",
        "Revert \"Merge branch 'v2' into 'main'\"\n\nThis reverts merge request !12",
        True,
    ),
    (
        "Merge branch 'v2' into 'main'\n\nRoll out v2\n\nSee merge request a/fleet!12",
        "Merge branch 'revert-0123' into 'main'\n\nRevert \"Merge branch 'v2' into 'main'\"\n\nSee merge request !13",
        True,
    ),
    (
        "Merged in v2 (pull request #12)\n\nRoll out v2",
        'Merged in revert-pr-12 (pull request #13)\n\nRevert "Roll out v2 (pull request #12)"',
        True,
    ),
    ("Merged PR 12: Roll out v2", 'Merged PR 13: Revert "Roll out v2"', True),
    ("Merged PR 12: Roll out v2", "Merged PR 13: Revert 'Merged PR 12: Roll out v2'", True),
    ("Roll out v2", 'Revert "Roll out', False),
    ("Roll out v2", 'Reverts "Roll out v2"', False),
    ("Roll out v2", "Roll out v2", False),
    ("Roll out v2", "Merge branch 'tidy'\n\nRemove what is done\n\nRevert \"Roll out v2\" is next", False),
    ("", 'Revert ""', False),
]


@pytest.mark.parametrize(("bringing", "removing", "is_revert"), FORGES)
def test_a_forge_without_the_sentence_is_known_by_its_titles(bringing: str, removing: str, is_revert: bool):  # noqa: FBT001
    brought = [*titles(bringing), bringing.partition("\n")[0]]
    assert reverts_title(removing, brought) is is_revert
