"""Keyword arguments that several methods share."""

from typing import Any

import pytest

from semseg_cli.api.settings import chosen_for, made
from semseg_cli.errors import UsageError
from semseg_cli.settings.controls import RandFeat
from semseg_cli.settings.methods import AutoFeat, MeanDiff


def test_a_choice_goes_to_the_methods_that_have_it() -> None:
    kinds = [AutoFeat, RandFeat, MeanDiff]
    given = {"match": "frequency", "max_freq": 0.5}
    found: list[Any] = [made(kind, chosen_for(kind, given, kinds)) for kind in kinds]
    assert [one.match for one in found] == ["none", "frequency", "norm"]
    assert {one.max_freq for one in found} == {0.5}


def test_a_choice_that_no_method_has_is_refused() -> None:
    kinds = [AutoFeat, RandFeat]
    with pytest.raises(UsageError, match="match is 'nonsense': choose one of"):
        made(AutoFeat, chosen_for(AutoFeat, {"match": "nonsense"}, kinds))
