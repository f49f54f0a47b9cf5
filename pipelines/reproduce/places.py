"""From `SOURCE>TARGET`, in the paper's short names, to the folds and domains of a protocol on some data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from pipelines.data.protocol_settings import AnyProtocol, ProtocolSettings
from pipelines.data.protocols import Fold, build_protocol
from pipelines.errors import AgfasError
from pipelines.report.targets import Target
from pipelines.reproduce.settings import ProtocolChoice

OTHERS, TOGETHER = "others", "together"
_LISTS = ("domains", "train", "test")


def protocol_on(choice: ProtocolChoice, domains: Mapping[str, str]) -> dict[str, Any]:
    """The protocol's block of an experiment, with domains in the places of short names; those without one are left out.

    Raises:
        AgfasError: a list is left empty, so that nothing can be trained or tested.
    """
    block: dict[str, Any] = {}
    for key, value in choice.protocol.items():
        block[key] = [domains[name] for name in value if name in domains] if key in _LISTS else value
        if block[key] == []:
            raise AgfasError(
                f"The protocol {choice.protocol['name']} needs a domain in the place of one of {', '.join(value)}"
                f" (protocol.{key}), and the data have none. Give more domains, or another --map."
            )
    return block


def folds_on(choice: ProtocolChoice, domains: Mapping[str, str]) -> tuple[Fold, ...]:
    """The protocol's folds on these domains."""
    settings: AnyProtocol = TypeAdapter(ProtocolSettings).validate_python(protocol_on(choice, domains))
    return build_protocol(settings, list(domains.values())).folds


def targets_at(choice: ProtocolChoice, at: str, domains: Mapping[str, str]) -> list[Target]:
    """What `SOURCE>TARGET` tests; empty where the data have no domain in that place.

    Raises:
        AgfasError: it is not written so.
    """
    source, sign, target = at.partition(">")
    if not sign or not target:
        raise AgfasError(f"'{at}' names no target: write SOURCE>TARGET, or >TARGET.")
    folds = folds_on(choice, domains)
    if source:
        folds = tuple(fold for fold in folds if fold.train_domains == (domains.get(source),))
    if target == TOGETHER:
        return [Target(fold.name) for fold in folds]
    wanted = set(domains.values()) - {domains.get(source)} if target == OTHERS else {domains.get(target)}
    return [
        Target(fold.name, domain if len(fold.test_domains) > 1 else "")
        for fold in folds
        for domain in fold.test_domains
        if domain in wanted
    ]


def short_name(target: Target, domains: Mapping[str, str]) -> str:
    """The paper's short name of what a target tests; its own where it has none."""
    return next((name for name, domain in domains.items() if domain == target.domain), target.name)
