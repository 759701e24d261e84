"""Names (paths, tools, sessions, …) in few bits, and what a segment remembers of them.

Each kind of name is kept in the order of last use, so that what was named just now is 0 and costs
least (Bentley et al., "A Locally Adaptive Data Compression Scheme", 1986). A new name is spelt: a
UUID and hexadecimal digits as what they are; a path as what it shares with one that is known, whole
folders, and the rest; all other text by SYMBOLS, the longest that fits first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from localmem_protocol.bits import BitReader, BitWriter, Column
from localmem_protocol.errors import BatchError

SYMBOLS: Final = (
    *("e", "t", "s", "/", "o", "r", "i", "n", "a", "_", "c", "l", "d", "p", "m", ".py", "u"),
    *("test", "re", "in", "er", "h", "g", "on", "st", "f", "b", "es", "te", "y", "or", "k", "v"),
    *("en", "al", "an", "at", "ti", "ing", "tion", "w", ".", "-", "x", "ar", "le", "de", "ser"),
    *("src/", ".ts", ".md", ".go", ".js", "__init__.py", "tests/", "util", "co", "ro", "se", "li"),
    *("0", "1", "2", "3", "z", "j", "q", "4", "5", "6", "7", "8", "9", "lib/", "docs/", "core"),
    *("base", "config", "index", "main", "model", "type", "data", "server", "client", "error"),
    *("common", "page", "view", "api", "app", "internal/", "components/", ".json", ".toml", ".rs"),
    *(".yaml", ".yml", ".html", ".css", ".tsx", ".java", ".sh", ".txt", "claude-code", "cursor"),
    *("codex", " ", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O"),
    *("P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "@", "+", "(", ")", "[", "]", "~"),
)
"""What names are spelt with, roughly the most frequent first; any other character is spelt out.

The list is a part of the format.
"""

_TEXT, _HEX, _UUID = 0, 1, 2
_HEX_DIGITS: Final = re.compile(r"(?:[0-9a-f]{2}){4,16}")
_UUID_DIGITS: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_UUID_BYTES: Final = 16
_CODE_POINT_BITS: Final = 21
_STRANGE: Final = len(SYMBOLS)
_PLACES: Final = {symbol: place for place, symbol in enumerate(SYMBOLS)}
_SPELLING: Final = re.compile(
    "|".join(map(re.escape, sorted(SYMBOLS, key=len, reverse=True))) + "|.", re.DOTALL
)
_EXPECTED: Final = {"symbol": 3, "symbols": 2}


class Names:
    """The names of one kind, and how recently each was used.

    Numbers tell names apart: the first is 0. `paths` are spelt by folders.
    """

    def __init__(
        self, values: Iterable[str | None], bytes_max: int, *, paths: bool = False
    ) -> None:
        self.values: list[str | None] = list(values)
        self._recent = list(range(len(self.values)))
        self._bytes_max = bytes_max
        self._paths = paths
        self._columns: dict[str, Column] = {}

    def copy(self) -> Names:
        """One that changes apart from this one."""
        other = Names(self.values, self._bytes_max, paths=self._paths)
        other._recent = self._recent[:]
        other._columns = {name: column.copy() for name, column in self._columns.items()}
        return other

    def rank(self, value: str | None) -> tuple[int, int]:
        """Use a name: its place by recency, and its number. A new one is last in both."""
        if value in self.values:
            number = self.values.index(value)
            rank = self._recent.index(number)
        else:
            number = rank = len(self.values)
            self.values.append(value)
            self._recent.append(number)
        self._recent.insert(0, self._recent.pop(rank))
        return rank, number

    def at(self, rank: int) -> int:
        """Use the name of a rank: its number. If it is new, `read_new` gives its value later."""
        if rank > len(self._recent):
            raise BatchError("a name that is not known")
        if rank == len(self._recent):
            self._recent.append(rank)
        number = self._recent.pop(rank)
        self._recent.insert(0, number)
        return number

    def new(self) -> int:
        """How many names have a number and no value yet."""
        return len(self._recent) - len(self.values)

    def write(self, bits: BitWriter, number: int) -> None:
        """Spell a new name, by those with a lower number."""
        name = self.values[number] or ""
        if _UUID_DIGITS.fullmatch(name):
            bits.flat(_UUID, 2)
            bits.flat(int(name.replace("-", ""), 16), 8 * _UUID_BYTES)
        elif _HEX_DIGITS.fullmatch(name):
            bits.flat(_HEX, 2)
            bits.number(self._column("digits"), len(name) // 2)
            bits.flat(int(name, 16), 4 * len(name))
        else:
            bits.flat(_TEXT, 2)
            if self._paths:
                base, folders = self._base(name, number)
                bits.number(self._column("base"), base)
                bits.number(self._column("folders"), folders)
                name = name[len(_head(self._known(base, number), folders)) :]
            self._spell(bits, name)

    def read_new(self, bits: BitReader) -> None:
        """The value of the next name that has none."""
        form = bits.flat(2)
        if form == _TEXT:
            name = ""
            if self._paths:
                base = bits.number(self._column("base"))
                folders = bits.number(self._column("folders"))
                name = _head(self._known(base, len(self.values)), folders)
            name += self._read_spelling(bits)
        elif form == _HEX:
            size = bits.number(self._column("digits"))
            if size > self._bytes_max:
                raise BatchError("a name that is too long")
            name = f"{bits.flat(8 * size):0{2 * size}x}"
        elif form == _UUID:
            digits = f"{bits.flat(8 * _UUID_BYTES):032x}"
            parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
            name = "-".join(parts)
        else:
            raise BatchError(f"a name in the unknown form {form}")
        self.values.append(name)

    def _spell(self, bits: BitWriter, text: str) -> None:
        symbols = _SPELLING.findall(text)
        bits.number(self._column("symbols"), len(symbols))
        for symbol in symbols:
            bits.number(self._column("symbol"), _PLACES.get(symbol, _STRANGE))
            if symbol not in _PLACES:
                bits.flat(ord(symbol), _CODE_POINT_BITS)

    def _read_spelling(self, bits: BitReader) -> str:
        symbols: list[str] = []
        count = bits.number(self._column("symbols"))
        if count > self._bytes_max:
            raise BatchError("a name that is too long")
        for _ in range(count):
            place = bits.number(self._column("symbol"))
            if place > _STRANGE:
                raise BatchError("a symbol that is unknown")
            symbols.append(SYMBOLS[place] if place < _STRANGE else _character(bits))
        return "".join(symbols)

    def _base(self, name: str, number: int) -> tuple[int, int]:
        """By which known name a path is spelt: its distance, and the folders of it to leave out.

        The nearest of those that share the most folders.
        """
        shared = [
            _shared(name, self._known(base, number)) for base in range(min(number, _BASES_MAX))
        ]
        most = max(shared, default=0)
        base = shared.index(most) if most else 0
        return base, self._known(base, number).count("/") - most

    def _known(self, base: int, number: int) -> str:
        """The name `base` numbers before the one before `number`; empty if there is none."""
        if base >= _BASES_MAX:
            raise BatchError("a path by one that is too far back")
        place = number - 1 - base
        return (self.values[place] or "") if place >= 0 else ""

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = Column(_EXPECTED.get(name, 0))
        return self._columns[name]


_BASES_MAX: Final = 64


def _shared(one: str, other: str) -> int:
    """How many leading folders two paths share."""
    count = 0
    for mine, yours in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if mine != yours:
            break
        count += 1
    return count


def _head(path: str, left_out: int) -> str:
    """A path's folders without the last `left_out`. Raises BatchError if there are not so many."""
    folders = path.split("/")[:-1]
    if left_out > len(folders):
        raise BatchError("a path by folders that are not there")
    return "".join(f"{folder}/" for folder in folders[: len(folders) - left_out])


def _character(bits: BitReader) -> str:
    code = bits.flat(_CODE_POINT_BITS)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise BatchError("a character that does not exist")
    return chr(code)
