"""Words of a text in any script.

Compatibility forms are folded (NFKC), then case, and what can't be seen (soft hyphens, joiners, variation selectors) is
dropped; a word is a run of letters, digits, underscores and the marks on them. Scripts written without spaces (Han, kana,
Thai, Lao, Khmer, Burmese) and Hangul give pairs of neighbouring characters instead, and a character that stands alone gives
itself. No stems and no stop words: what a word is worth is left to its frequency.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

#: Blocks of scripts that are written without spaces, and Hangul, whose words are compounds.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # iteration marks and zero of Han
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),  # Hangul syllables
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
_ASCII = re.compile(r"\w+", re.ASCII)
_INVISIBLE = re.compile("[\u00ad\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")


def tokens(text: str) -> list[str]:
    """Return the words of a text, in order, with repetitions.

    Examples
    --------
    >>> tokens("Ｃafé-Racer №5: 東京タワー")
    ['café', 'racer', 'no5', '東京', '京タ', 'タワ', 'ワー']
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words, stretches = _patterns()
    found: list[str] = []
    for word in words.findall(_INVISIBLE.sub("", plain)):
        for stretch in stretches.findall(word):
            found.extend(_pairs(stretch) if _is_unspaced(stretch[0]) else [stretch])
    return found


def _pairs(stretch: str) -> list[str]:
    return [stretch] if len(stretch) == 1 else [stretch[at : at + 2] for at in range(len(stretch) - 1)]


def _is_unspaced(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in UNSPACED)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a word, and of a stretch of it that is all of unspaced scripts or free of them."""
    marks = "".join(f"{chr(low)}-{chr(high)}" for low, high in _marks())
    unspaced = "".join(f"{chr(low)}-{chr(high)}" for low, high in UNSPACED)
    return re.compile(f"\\w[\\w{marks}]*"), re.compile(f"[{unspaced}]+|[^{unspaced}]+")


def _marks() -> list[tuple[int, int]]:
    """Return the ranges of combining marks, which a regular expression takes for no part of a word."""
    ranges: list[tuple[int, int]] = []
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    return ranges
