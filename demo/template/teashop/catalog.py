"""The teas on the shelf."""

from dataclasses import dataclass


class UnknownTea(ValueError):
    """There is no such tea on the shelf."""


@dataclass(frozen=True)
class Tea:
    """One tea: price in cents and weight in grams of one bag."""

    code: str
    name: str
    price: int
    weight: int


SHELF = {
    tea.code: tea
    for tea in (
        Tea("sencha", "Sencha", 480, 100),
        Tea("matcha", "Matcha", 1990, 30),
        Tea("assam", "Assam", 435, 100),
        Tea("rooibos", "Rooibos", 103, 50),
    )
}


def find(code):
    """The tea with this code."""
    return SHELF[code]
