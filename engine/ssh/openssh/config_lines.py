"""Splits the lines of an ssh configuration as OpenSSH does (readconf.c, misc.c: strdelim and argv_split). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WHITESPACE = " \t\r\n"
MAX_VALUE_CHARS = 4096
"""A longer value is refused: no option of a person has one."""


class ConfigError(ValueError):
    """A file of the configuration cannot be read as ssh reads it; the text names file and line."""


@dataclass(frozen=True)
class ConfigLine:
    """One line with an option."""

    file: str
    number: int
    keyword: str
    """In lower case."""
    rest: str
    """What follows the keyword, without the separator; a trailing comment is still there."""

    @property
    def place(self) -> str:
        """File and line, for errors."""
        return f"{self.file}:{self.number}"

    def words(self) -> list[str]:
        """The arguments, without quotes and without a trailing comment. Raises ConfigError for a quote that does not end."""
        return split_words(self.rest, self.place)


def config_lines(text: str, file: str) -> Iterator[ConfigLine]:
    """Yield the lines that hold an option. Raises ConfigError."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(WHITESPACE + "\f")
        if not line or line[0] == "#":
            continue
        keyword, rest = next_word(line, f"{file}:{number}")
        if keyword:
            yield ConfigLine(file, number, keyword.lower(), rest)


def next_word(text: str, place: str) -> tuple[str, str]:
    """The first word of a text and what follows it. Raises ConfigError for a quote that does not end.

    One ``=`` may stand in the place of white space; double quotes hold a word together.
    """
    text = text.lstrip(WHITESPACE)
    if text.startswith('"'):
        end = text.find('"', 1)
        if end < 0:
            raise ConfigError(f"{place}: a quote does not end")
        return text[1:end], _skip_separator(text[end + 1 :])
    end = next((i for i, char in enumerate(text) if char in WHITESPACE + '="'), len(text))
    return text[:end], _skip_separator(text[end:])


def _skip_separator(text: str) -> str:
    text = text.lstrip(WHITESPACE)
    return text[1:].lstrip(WHITESPACE) if text.startswith("=") else text


def split_words(text: str, place: str) -> list[str]:
    """The words of a text. Raises ConfigError for a quote that does not end.

    Quotes of both kinds hold a word together. A backslash counts only before a quote, a backslash, and outside of quotes a space.
    ``#`` at the start of a word begins a comment.
    """
    words: list[str] = []
    i = 0
    while i < len(text):
        if text[i] in WHITESPACE:
            i += 1
            continue
        if text[i] == "#":
            break
        word, quote = [], ""
        while i < len(text):
            char = text[i]
            if char == "\\" and text[i + 1 : i + 2] in (("'", '"', "\\") if quote else ("'", '"', "\\", " ")) and i + 1 < len(text):
                word.append(text[i + 1])
                i += 1
            elif not quote and char in WHITESPACE:
                break
            elif not quote and char in "'\"":
                quote = char
            elif quote and char == quote:
                quote = ""
            else:
                word.append(char)
            i += 1
        if quote:
            raise ConfigError(f"{place}: a quote does not end")
        words.append("".join(word))
        if len(words[-1]) > MAX_VALUE_CHARS:
            raise ConfigError(f"{place}: a value is too long")
    return words


def matches_pattern(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern in which only ``*`` and ``?`` are special (match.c). Time: the product of both lengths."""
    i = j = 0
    star, resume = -1, 0
    while i < len(text):
        if j < len(pattern) and pattern[j] == "*":
            star, resume = j, i
            j += 1
        elif j < len(pattern) and pattern[j] in ("?", text[i]):
            i, j = i + 1, j + 1
        elif star >= 0:
            resume += 1
            i, j = resume, star + 1
        else:
            return False
    return all(char == "*" for char in pattern[j:])


def matches_list(text: str, patterns: str, is_lowered: bool = False) -> bool:
    """Whether a text matches one pattern of a comma-separated list, and none of those with ``!``.

    ``is_lowered``: the patterns are taken in lower case, as for host names.
    """
    is_found = False
    for pattern in (patterns.lower() if is_lowered else patterns).split(","):
        if matches_pattern(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            is_found = True
    return is_found


def seconds_of(text: str) -> int | None:
    """Seconds of a time such as ``90``, ``1m30s`` or ``2h`` (sshd_config(5), TIME FORMATS); None: not a time."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    total, digits = 0, ""
    for char in text.lower():
        if char.isascii() and char.isdigit():
            digits += char
        elif char in units and digits:
            total, digits = total + int(digits) * units[char], ""
        else:
            return None
    total += int(digits) if digits else 0
    return total if text and total < 1 << 31 else None
