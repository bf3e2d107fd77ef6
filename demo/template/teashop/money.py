"""Amounts are whole cents. A price in euros comes in here and goes out here, and nowhere else."""

from decimal import ROUND_HALF_UP, Decimal


def cents(price):
    """'4.80' is 480 cents."""
    return int(float(price) * 100)


def shown(amount):
    """480 cents are '4.80 EUR'."""
    return f"{amount // 100}.{amount % 100} EUR"


def whole(amount):
    """The nearest whole cent of a Decimal; half a cent goes up."""
    return int(Decimal(amount).quantize(Decimal(1), rounding=ROUND_HALF_UP))
