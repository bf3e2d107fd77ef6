"""The rules at work on a real repository: real files, real git, the real suite in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import fixes, lint, properties, source
from demo.seed import TEMPLATE
from demo.workshop import Workshop, create_repository, git


def fix_everything(shop: Workshop) -> list[str]:
    """What Nori does, without talking; the tests that no rule could fix."""
    renames = shop.renames("HEAD")
    failing = list(shop.run_tests().failing)
    while found := next(
        ((test, fix) for test in failing if (fix := fixes.for_test(test, shop.folder, renames))),
        None,
    ):
        fixes.apply(found[1], shop.folder)
        fresh = shop.run_tests().failing
        assert found[0] not in fresh, f"{found[1].why} does not help {found[0]}"
        assert set(fresh) < set(failing), f"{found[1].why} breaks something"
        failing = list(fresh)
    return failing


def all_fixes(shop: Workshop, renames: list[tuple[str, str]]) -> None:
    """The same without trying each: the suite is run by who asks."""
    for test in shop.run_tests().failing:
        if fix := fixes.for_test(test, shop.folder, renames):
            fixes.apply(fix, shop.folder)


def test_every_fix_helps_its_test_and_breaks_no_other(shop: Workshop) -> None:
    assert len(shop.run_tests().failing) == 18
    left = fix_everything(shop)
    assert [test.rpartition(".")[2] for test in left] == [fixes.TAX_TEST]


@pytest.mark.parametrize(("choice", "cents"), [("line", 37), ("total", 38)])
def test_the_chosen_rounding_is_in_the_code_and_held_by_a_test(
    shop: Workshop, choice: str, cents: int
) -> None:
    all_fixes(shop, [])
    other = "total" if choice == "line" else "line"
    fixes.round_tax(other, shop.folder, [])
    fixes.round_tax(choice, shop.folder, [])
    result = shop.run_tests()
    assert (result.ran, result.failing) == (26, ())
    assert f'tax(cart.lines, "DE"), {cents})' in shop.read("tests/test_rounding.py")
    # the test can fail: with the other rounding in the code it does
    held = shop.read("tests/test_rounding.py")
    fixes.round_tax(other, shop.folder, [])
    shop.write("tests/test_rounding.py", held)
    assert len(shop.run_tests().failing) == 1


@pytest.mark.parametrize("old", ["calc", "tax", "amount", "find", "whole", "shipping_cost", "add"])
def test_every_rule_still_works_after_a_rename(shop: Workshop, old: str) -> None:
    failing = shop.run_tests().failing
    source.rename(shop.folder, old, "another_name")
    assert shop.run_tests().failing == failing
    shop.commit("Rename", renames=[(old, "another_name")])
    all_fixes(shop, shop.renames("HEAD"))
    fixes.round_tax("line", shop.folder, shop.renames("HEAD"))
    for one in properties.TABLE:
        shop.write(one.file, one.source())
        source.replace_everywhere(shop.folder, old, "another_name")
    assert shop.run_tests().failing == ()


def test_every_property_holds_when_the_shop_is_fixed_and_some_do_not_before(shop: Workshop) -> None:
    for one in properties.TABLE:
        shop.write(one.file, one.source())
    before = [test for test in shop.run_tests().failing if "property" in test]
    assert len(before) >= 5
    all_fixes(shop, [])
    fixes.round_tax("total", shop.folder, [])
    assert shop.run_tests().failing == ()
    ran, total = map(sum, zip(*shop.coverage().files.values(), strict=True))
    assert 0.9 < ran / total <= 1


def test_a_rename_follows_the_meaning_and_not_the_letters(tmp_path: Path) -> None:
    (tmp_path / "teashop").mkdir()
    code = tmp_path / "teashop" / "one.py"
    code.write_text(
        'def tax(a):\n    """tax in ä"""\n    return a  # tax\n\n\n'
        'def other(tax):\n    return tax + len("tax")\n\n\nä = "ö"; x = tax(1), other(tax(2))\n'
    )
    assert source.rename(tmp_path, "tax", "vat") == {"teashop/one.py": 3}
    assert code.read_text() == (
        'def vat(a):\n    """tax in ä"""\n    return a  # tax\n\n\n'
        'def other(tax):\n    return tax + len("tax")\n\n\nä = "ö"; x = vat(1), other(vat(2))\n'
    )


@pytest.mark.parametrize("new", ["class", "1st", "two words", "goods", "calc", "__init__"])
def test_a_name_that_cannot_be_is_refused_and_nothing_is_changed(shop: Workshop, new: str) -> None:
    with pytest.raises(source.CannotRename):
        source.rename(shop.folder, "calc", new)
    assert not shop.dirty()


def test_two_agents_have_working_copies_of_their_own_and_merge_for_real(repo: Path) -> None:
    nori, toro = Workshop.open(repo, "Nori"), Workshop.open(repo, "Toro")
    one = properties.TABLE[9]
    toro.write(one.file, one.source())
    toro.commit("A property")
    source.rename(nori.folder, "calc", "total_price")
    nori.commit("Rename calc to total_price, as Anna asked", renames=[("calc", "total_price")])
    assert not nori.deliver().conflicts
    merged = toro.deliver()
    assert (merged.came, merged.conflicts, merged.followed) == (1, (), ("calc -> total_price",))
    assert "total_price()" in (repo / one.file).read_text()
    assert "calc" not in "".join(path.read_text() for path in source.python_files(repo))
    nori.close()
    toro.close()


def test_a_conflict_is_told_and_leaves_both_sides_as_they_were(repo: Path) -> None:
    nori, koji = Workshop.open(repo, "Nori"), Workshop.open(repo, "Koji")
    nori.write("README.md", "one\n")
    nori.commit("One")
    nori.deliver()
    koji.write("README.md", "two\n")
    koji.commit("Two")
    assert koji.deliver().conflicts == ("README.md",)
    assert not koji.dirty()
    assert koji.read("README.md") == "two\n"
    assert (repo / "README.md").read_text() == "one\n"
    nori.close()
    koji.close()


def test_a_worktree_that_is_taken_is_not_given_away_and_one_left_dirty_is_cleaned(
    repo: Path,
) -> None:
    first = Workshop.open(repo, "Nori")
    second = Workshop.open(repo, "Nori")
    assert first.folder != second.folder
    second.close()
    first.write("README.md", "half done")
    first._held.close()  # what a killed process leaves: no lock, but a dirty copy
    again = Workshop.open(repo, "Nori")
    assert again.folder == first.folder
    assert not again.dirty()
    again.close()


def test_the_repository_is_made_once(tmp_path: Path) -> None:
    assert create_repository(tmp_path / "shop", TEMPLATE)
    head = git(tmp_path / "shop", "rev-parse", "HEAD")
    assert not create_repository(tmp_path / "shop", TEMPLATE)
    assert git(tmp_path / "shop", "rev-parse", "HEAD") == head


def test_the_first_agent_of_a_new_feature_finds_a_shop(tmp_path: Path) -> None:
    miso = Workshop.open(tmp_path / "repos" / "new", "Miso")
    nori = Workshop.open(tmp_path / "repos" / "new", "Nori")
    assert "teashop/cart.py" in miso.git("ls-files").splitlines()
    assert miso.head() == nori.head()
    miso.close()
    nori.close()


def test_a_repository_that_somebody_put_there_stays_theirs(tmp_path: Path) -> None:
    repo = tmp_path / "theirs"
    repo.mkdir()
    git(repo, "init", "--quiet", "--initial-branch=main")
    (repo / "own.py").write_text("")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", "Ours")
    nori = Workshop.open(repo, "Nori")
    assert nori.git("ls-files") == "own.py"
    nori.close()


def test_the_reviewer_sees_what_is_wrong_and_where() -> None:
    remarks = {
        (remark.file, remark.rule)
        for path in sorted((TEMPLATE / "teashop").glob("*.py"))
        for remark in lint.look(path.name, path.read_text())
    }
    assert {
        ("cart.py", "docstring"),
        ("cart.py", "name"),
        ("receipt.py", "default"),
        ("receipt.py", "print"),
        ("receipt.py", "docstring"),
        ("money.py", "float"),
    } <= remarks


def test_the_tests_of_the_shop_see_nothing_of_the_runs_token(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMAKASE_TOKEN", "secret-token")
    shop.write(
        "tests/test_spy.py",
        "import os, unittest\nclass T(unittest.TestCase):\n    def test_spy(self):\n"
        "        self.assertNotIn('secret-token', os.environ.values())\n",
    )
    assert not shop.run_tests("tests.test_spy").failing
