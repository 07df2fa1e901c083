"""Request words: the words of older versions still reach their handlers."""

from __future__ import annotations

import pytest
from paceline.engine.agent.rpc.dispatch import OLD_WORDS, REQUESTS, find_handler


@pytest.mark.parametrize(("old", "word"), OLD_WORDS.items())
def test_an_old_word_is_an_alias_of_a_request(old: str, word: str) -> None:
    assert old not in REQUESTS
    assert find_handler(old) is find_handler(word) is REQUESTS[word]


@pytest.mark.parametrize("word", ["sing", "", None, 7, [], {}])
def test_an_unknown_word_has_no_handler(word: object) -> None:
    assert find_handler(word) is None
