"""Work in a second thread: in order, one item ahead or behind, and its errors where they belong."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shard_parts import arrays_of, new_store

from pipelines.cues import tasks
from pipelines.cues.background import Behind, one_ahead, resolved
from pipelines.cues.faces import ArrayFaces, DatasetFaces, as_face_images
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError


def failing() -> None:
    raise ValueError("no room")


def test_an_item_is_done_in_another_thread_before_the_next_begins():
    done: list[Any] = []
    with Behind() as behind:
        behind.wait()
        for number in range(3):
            behind.run(lambda number=number: done.append((number, threading.current_thread().name)))
            behind.wait()
            assert len(done) == number + 1
    assert [number for number, _ in done] == [0, 1, 2]
    assert {name.split("_")[0] for _, name in done} == {"behind"}


def test_an_error_is_raised_once_by_what_comes_next():
    with Behind() as behind:
        behind.run(failing)
        with pytest.raises(ValueError, match="no room"):
            behind.run(lambda: None)
        behind.wait()
    with pytest.raises(ValueError, match="no room"), Behind() as behind:
        behind.run(failing)


def test_the_error_of_the_block_itself_is_not_hidden():
    def leave() -> None:
        with Behind() as behind:
            behind.run(failing)
            raise KeyError

    with pytest.raises(KeyError):
        leave()


def test_the_next_item_is_prepared_while_this_one_is_used():
    begun, release = [], threading.Event()

    def prepare(number: int) -> int:
        begun.append((number, threading.current_thread().name.split("_")[0]))
        if number == 1:
            assert release.wait(10)
        if number == 3:
            raise ValueError("item 3")
        return 10 * number

    found = one_ahead(prepare, range(4))
    assert next(found) == 0
    release.set()
    assert [next(found), next(found)] == [10, 20]
    with pytest.raises(ValueError, match="item 3"):
        next(found)
    assert begun == [(number, "ahead") for number in range(4)]
    assert list(one_ahead(prepare, [])) == []
    assert (resolved(lambda: 3), resolved(4)) == (3, 4)


class Bar:
    """A progress bar that is looked at."""

    def __init__(self, *given: Any, **options: Any) -> None:
        self.given, self.options, self.n = given, options, options["initial"]
        bars.append(self)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, by: int) -> None:
        self.n += by


bars: list[Bar] = []


def test_a_bar_counts_rows_and_what_is_asked_for_is_made_as_it_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "bar", Bar)
    bars.clear()
    stores = {
        "one": new_store(tmp_path),
        "two": ShardStore.create_or_open(tmp_path, {"t": 2}, new_store(tmp_path).keys, 5),
    }
    stores["one"].write(1, arrays_of(range(5, 10)))
    asked: list[Any] = []

    def make(task: int, names: list[str]):
        asked.append((task, names))
        rows = stores["one"].task_rows(task)
        yield from ((name, lambda: arrays_of(rows)) for name in names)

    tasks.run_tasks(stores, make, rank=1, world_size=2, made={"batch_size": 3}, only=[4, 1, 2], description="cues")
    assert asked == [(2, ["one", "two"]), (1, ["two"]), (4, ["one", "two"])]
    (shown,) = bars
    assert shown.given == (44, "cues")
    assert shown.options == {"initial": 5, "unit": "row", "show": True}
    assert shown.n == 5 + 10 + 5 + 4
    assert stores["two"].entry(4).made == {"batch_size": 3}
    assert stores["one"].unfinished() == [0, 3]
    tasks.run_tasks(stores, make, show_progress=False)
    assert [task for task, _ in asked[3:]] == [0, 3]
    assert (bars[1].given[1], bars[1].options["show"], bars[1].n) == ("tasks", False, 44)
    for rank in (-1, 1):
        with pytest.raises(AgfasError, match=r"rank must lie in 0 \.\. 0 for world_size = 1, not"):
            tasks.run_tasks(stores, make, rank=rank)


class Contested:
    """A store of one task that another process finishes while this one waits for its claim."""

    def __init__(self, taken: bool, finished_meanwhile: bool) -> None:
        self.taken, self.meanwhile, self.is_finished = taken, finished_meanwhile, False
        self.released: list[int] = []
        self.claims = self

    def finished(self, task: int) -> bool:
        return self.is_finished

    def take(self, task: int) -> bool:
        return self.taken

    def refresh(self) -> None:
        self.is_finished = self.meanwhile

    def release(self, task: int) -> None:
        self.released.append(task)


def test_a_task_that_another_process_has_or_has_finished_is_not_claimed():
    stores: Any = {
        "free": Contested(True, False), "taken": Contested(False, False), "finished": Contested(True, True),
    }  # fmt: skip
    assert list(tasks._claim(7, stores)) == ["free"]
    assert [store.released for store in stores.values()] == [[], [], [7]]


class Table:
    """A dataset of two columns, as Hugging Face's."""

    def __init__(self, pictures: list[Any]) -> None:
        self.pictures = pictures

    def __getitem__(self, what: Any) -> Any:
        if what == "key":
            return [f"k{place}" for place in range(len(self.pictures))]
        return {"image": self.pictures[what]}

    def select_columns(self, names: list[str]) -> Table:
        assert names == ["image"]
        return self


class Broken:
    def convert(self, mode: str) -> None:
        raise OSError("cut short")


def test_faces_of_every_kind():
    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    arrays = ArrayFaces(["a", "b"], images, np.array([2, 0]))
    assert as_face_images(arrays) is arrays
    assert np.array_equal(arrays.batch(np.array([1, 0])), images[[0, 2]])
    assert np.array_equal(ArrayFaces(list("abc"), images).batch(np.array([1])), images[[1]])
    table = as_face_images(Table([Image.fromarray(image) for image in images]))
    assert isinstance(table, DatasetFaces)
    assert list(table.keys) == ["k0", "k1", "k2"]
    assert np.array_equal(table.batch(np.array([2, 1])), images[[2, 1]])
    grey = Image.new("L", (4, 4), 7)
    assert as_face_images(Table([grey])).batch(np.array([0])).tolist() == np.full((1, 4, 4, 3), 7).tolist()
    opened = type("Opened", (), {"keys": ["a"], "images": images[:1]})()
    assert np.array_equal(as_face_images(opened).batch(np.array([0])), images[:1])
    with pytest.raises(AgfasError, match="faces must be a face dataset or a provider with `keys` and `batch`, not int"):
        as_face_images(3)
    for lacking in ({"keys": ["a"]}, {"images": images}, {"batch": None}):
        with pytest.raises(AgfasError, match="not Opened"):
            as_face_images(type("Opened", (), lacking)())
    sizes = as_face_images(Table([grey, Image.new("RGB", (5, 4))]))
    with pytest.raises(AgfasError, match=r"faces of 2 sizes in one dataset, k1 among them: 4x4, 5x4\. Align"):
        sizes.batch(np.array([1, 0]))
    with pytest.raises(AgfasError, match=r"the picture of k0 cannot be decoded \(cut short\)\. Make the dataset again"):
        as_face_images(Table([Broken()])).batch(np.array([0]))
