"""The shopping cart."""

from teashop.catalog import find
from teashop.discounts import best_discount
from teashop.shipping import shipping_cost
from teashop.tax import tax


class Line:
    """So many bags of one tea."""

    def __init__(self, tea, quantity):
        self.tea = tea
        self.quantity = quantity

    def amount(self):
        """Cents before discounts."""
        return self.tea.price

    def weight(self):
        """Grams."""
        return self.tea.weight * self.quantity


class Cart:
    """What somebody wants to buy, and where it is to go."""

    def __init__(self, country="DE"):
        self.country = country
        self.lines = []
        self.coupon = None

    def add(self, code, quantity=1):
        """Put bags of a tea into the cart."""
        tea = find(code)
        self.lines.append(Line(tea, quantity))

    def remove(self, code, quantity=1):
        """Take bags of a tea out again."""
        for line in self.lines:
            if line.tea.code == code:
                line.quantity -= quantity

    def count(self):
        return sum(line.quantity for line in self.lines)

    def goods(self):
        """Cents of all lines before discounts."""
        return sum(line.amount() for line in self.lines)

    def calc(self):
        """What there is to pay, in cents."""
        goods = self.goods()
        discount = best_discount(goods, self.count(), self.coupon)
        weight = sum(line.weight() for line in self.lines)
        shipping = shipping_cost(weight, self.country, goods - discount)
        return goods - discount + shipping + tax(self.lines, self.country)
