"""The tutorials run as they are printed, and print what they show."""

from __future__ import annotations

import pytest

from scripts.tutorials import PAGES, differences, shape, steps

PAGE = """
Save this as `one.py`:

```python
print(1)
```

```bash
python one.py
```

```text
1
```

<!-- not run -->
```bash
sbatch job
```
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_prints_what_it_shows(name, tmp_path):
    assert differences(PAGES[name].read_text(encoding="utf-8"), tmp_path) == []


def test_a_page_is_its_own_script(tmp_path):
    saved, shown = steps(PAGE)
    assert (saved.name, saved.text) == ("one.py", "print(1)\n")
    assert shown.shown
    assert PAGE[slice(*shown.shown)] == "1\n"
    assert differences(PAGE, tmp_path) == []
    (found,) = differences(PAGE.replace("```text\n1", "```text\nanother"), tmp_path)
    assert "prints\n1\nand not\nanother" in found


def test_figures_and_decisions_may_differ():
    assert shape("live  0.93  a0b1c2d3e4f5a6b7") == shape("attack 0.1 00b1c2d3e4f5a6bf")
    assert shape("two rows") != shape("two columns")


@pytest.mark.parametrize("name", PAGES)
def test_every_tutorial_shows_what_its_commands_print(name):
    page = PAGES[name].read_text(encoding="utf-8")
    shown = [page[slice(*step.shown)] for step in steps(page) if step.shown]
    assert len(shown) >= 4
    assert all(text.strip() for text in shown)
