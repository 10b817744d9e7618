"""Every error has a code of its own and a place in the tree that its module draws."""

import inspect
import re
from collections.abc import Iterator

from reliable_tasks import errors
from reliable_tasks.errors import ReliableTasksError


def _descendants(cls: type[ReliableTasksError]) -> Iterator[type[ReliableTasksError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


ALL = [
    cls
    for cls in {ReliableTasksError, *_descendants(ReliableTasksError)}
    if cls.__module__ == errors.__name__
]
DRAWN = re.compile(r"^(?P<indent>[ |]*)\+-- (?P<name>\w+) +(?P<code>RT\dxx|RT\d{3})?", re.MULTILINE)


def test_each_error_has_its_own_code() -> None:
    codes = [cls.__dict__.get("code") for cls in ALL]
    assert all(isinstance(code, str) and re.fullmatch(r"RT\d{3}", code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn, above = {}, [ReliableTasksError.__name__]
    for line in DRAWN.finditer(inspect.getdoc(errors) or ""):
        depth = len(line["indent"]) // 4 + 1
        del above[depth:]
        drawn[line["name"]] = above[-1]
        above.append(line["name"])
    real = {cls.__name__: cls.__bases__[0].__name__ for cls in ALL if cls is not ReliableTasksError}
    assert drawn == real


def test_the_docstring_names_the_codes() -> None:
    by_name = {cls.__name__: cls.code for cls in ALL}
    for line in DRAWN.finditer(inspect.getdoc(errors) or ""):
        if line["code"]:
            assert re.fullmatch(line["code"].replace("xx", "00"), by_name[line["name"]])


def test_every_error_of_the_package_is_in_this_one_module() -> None:
    import reliable_tasks.app
    import reliable_tasks.cli.main

    assert reliable_tasks.app
    assert reliable_tasks.cli.main
    ours = {cls for cls in _descendants(ReliableTasksError) if cls.__module__.startswith("reliable_tasks.")}
    assert ours - set(ALL) == set()
