"""Which packages the wheel holds: `configs/` travels in it as `pipelines.configs`. Everything else: pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["agfas", "dfg*", "oanet*", "pipelines*"]), "pipelines.configs"],
    package_dir={"pipelines.configs": "configs"},
    package_data={
        "": ["py.typed"],
        "pipelines": ["**/*.html", "**/*.css", "**/*.md.j2", "reproduce/*.yaml"],
        "pipelines.configs": ["**/*.yaml"],
    },
)
