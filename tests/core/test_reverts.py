"""Which messages are reverts, as git and the forges write them."""

import pytest

from reconciler.core.reverts import reverted_ids, reverts_subject

ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("message", "ids"),
    [
        (f'Revert "x"\n\nThis reverts commit {ID}.', (ID,)),
        (f'Revert "Merge branch x"\n\nThis reverts commit {ID}, reversing\nchanges made to {"f" * 40}.', (ID,)),
        (f"Undo\n\nThis reverts commit {ID[:7]}.\nThis reverts commit {'a' * 40}.", (ID[:7], "a" * 40)),
        (f'Reapply "x"\n\nThis reverts commit {ID}.', (ID,)),
        (f"This reverts commit {ID[:6]}.", ()),
        ("Revert the colour", ()),
        (f"See {ID}", ()),
    ],
)
def test_gits_own_sentence_names_the_commits(message: str, ids: tuple[str, ...]):
    assert reverted_ids(message) == ids


@pytest.mark.parametrize(
    ("subject", "bringing", "is_revert"),
    [
        ('Revert "Roll out v2"', "Roll out v2", True),
        ('Revert "Roll out v2 (#12)" (#13)', "Roll out v2 (#12)", True),
        ('Revert "Roll out v2" (#13)', "Roll out v2 (#12)", True),
        ("Revert \"Merge branch 'v2' into 'main'\"", "Merge branch 'v2' into 'main'", True),
        ('Revert "Roll out', "Roll out v2", False),
        ('Reverts "Roll out v2"', "Roll out v2", False),
        ("Roll out v2", "Roll out v2", False),
        ('Revert ""', "", False),
        ('Fix\n\nRevert "Roll out v2"', "Roll out v2", False),
    ],
)
def test_the_subject_of_a_revert_begins_with_that_of_what_it_reverts(subject: str, bringing: str, is_revert: bool):  # noqa: FBT001
    assert reverts_subject(subject, [bringing]) is is_revert
