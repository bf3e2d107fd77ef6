"""Tax on tea, by the country it goes to."""

from decimal import Decimal

RATES = {"DE": Decimal("0.07"), "NL": Decimal("0.09"), "FR": Decimal("0.055")}


def tax(lines, country):
    """The tax on these lines, in cents."""
    rate = RATES[country]
    return sum(line.amount() * rate for line in lines)
