"""What Toro knows must hold of any shopping cart: each becomes a real test case in the suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HEAD = '''"""{about}"""

import random
import unittest

{imports}

RANDOM = random.Random({seed})
TEAS = ("sencha", "matcha", "assam", "rooibos")


class {title}(unittest.TestCase):
    def test_{name}(self):
        for _ in range(200):
'''


@dataclass(frozen=True)
class Property:
    """Something that must hold 200 times over. `body` is the inside of the loop."""

    name: str
    about: str
    imports: str
    body: str

    @property
    def file(self) -> str:
        """The test's file."""
        return f"tests/test_property_{self.name}.py"

    @property
    def module(self) -> str:
        """The test's module, as unittest names it."""
        return f"tests.test_property_{self.name}"

    def source(self) -> str:
        """The whole test file."""
        title = "".join(part.title() for part in self.name.split("_")) + "Test"
        seed = sum(self.name.encode())
        head = _HEAD.format(
            about=self.about, imports=self.imports, seed=seed, title=title, name=self.name
        )
        return head + "".join(f"            {line}\n" for line in self.body.strip().splitlines())


_CART = "from teashop.cart import Cart"

TABLE: Final[tuple[Property, ...]] = (
    Property(
        "shown_and_back", "An amount that is shown and read again is the same amount.",
        "from teashop.money import cents, shown",
        "amount = RANDOM.randrange(0, 100_000)\n"
        "self.assertEqual(cents(shown(amount).split()[0]), amount)",
    ),
    Property(
        "count_is_what_was_added", "The cart counts what was added.",
        _CART,
        "cart, quantities = Cart(), [RANDOM.randrange(1, 9) for _ in range(5)]\n"
        "for quantity in quantities:\n"
        "    cart.add(RANDOM.choice(TEAS), quantity)\n"
        "self.assertEqual(cart.count(), sum(quantities))",
    ),
    Property(
        "order_does_not_matter", "The order of adding does not change what the goods cost.",
        _CART,
        "bags = [(RANDOM.choice(TEAS), RANDOM.randrange(1, 9)) for _ in range(4)]\n"
        "one, other = Cart(), Cart()\n"
        "for code, quantity in bags:\n"
        "    one.add(code, quantity)\n"
        "for code, quantity in reversed(bags):\n"
        "    other.add(code, quantity)\n"
        "self.assertEqual(one.goods(), other.goods())",
    ),
    Property(
        "added_and_removed_is_empty", "What is added and removed again leaves no line behind.",
        _CART,
        "cart, code, quantity = Cart(), RANDOM.choice(TEAS), RANDOM.randrange(1, 9)\n"
        "cart.add(code, quantity)\n"
        "cart.remove(code, quantity)\n"
        "self.assertEqual(cart.lines, [])",
    ),
    Property(
        "twice_the_bags_cost_twice", "Twice the bags are twice the goods.",
        _CART,
        "code, quantity = RANDOM.choice(TEAS), RANDOM.randrange(1, 9)\n"
        "one, two = Cart(), Cart()\n"
        "one.add(code, quantity)\n"
        "two.add(code, 2 * quantity)\n"
        "self.assertEqual(two.goods(), 2 * one.goods())",
    ),
    Property(
        "discount_within_the_goods", "A discount is never negative and never above the goods.",
        "from teashop.discounts import best_discount",
        "goods, quantity = RANDOM.randrange(0, 9_000), RANDOM.randrange(0, 40)\n"
        "coupon = RANDOM.choice([None, 'WELCOME', 'teatime', 'NOBODY'])\n"
        "discount = best_discount(goods, quantity, coupon)\n"
        "self.assertTrue(0 <= discount <= goods, (goods, quantity, coupon, discount))",
    ),
    Property(
        "more_bags_no_less_discount", "More bags never make the discount smaller.",
        "from teashop.discounts import volume_discount",
        "goods, quantity = RANDOM.randrange(0, 9_000), RANDOM.randrange(0, 40)\n"
        "more = volume_discount(goods, quantity + 1)\n"
        "self.assertLessEqual(volume_discount(goods, quantity), more)",
    ),
    Property(
        "shipping_never_rises_with_goods", "Spending more never makes shipping dearer.",
        "from teashop.shipping import shipping_cost",
        "weight, goods = RANDOM.randrange(1, 3_000), RANDOM.randrange(0, 9_000)\n"
        "country = RANDOM.choice(['DE', 'NL', 'FR'])\n"
        "dearer = shipping_cost(weight, country, goods + 500)\n"
        "self.assertLessEqual(dearer, shipping_cost(weight, country, goods))",
    ),
    Property(
        "tax_is_never_negative_or_split", "Tax is whole cents, and never less than nothing.",
        _CART + "\nfrom teashop.tax import tax",
        "cart = Cart('NL')\n"
        "cart.add(RANDOM.choice(TEAS), RANDOM.randrange(1, 9))\n"
        "found = tax(cart.lines, 'NL')\n"
        "self.assertIsInstance(found, int)\n"
        "self.assertGreaterEqual(found, 0)",
    ),
    Property(
        "price_is_at_least_goods_less_discount", "The price holds goods, shipping and tax.",
        _CART,
        "cart = Cart(RANDOM.choice(['DE', 'NL', 'FR']))\n"
        "cart.add(RANDOM.choice(TEAS), RANDOM.randrange(1, 30))\n"
        "self.assertIsInstance(cart.calc(), int)\n"
        "self.assertGreaterEqual(cart.calc(), cart.goods() * 8 // 10)",
    ),
    Property(
        "receipt_has_every_tea", "A receipt has a row for each tea, and one for the total.",
        _CART + "\nfrom teashop.receipt import receipt",
        "cart = Cart()\n"
        "chosen = RANDOM.sample(TEAS, RANDOM.randrange(1, 4))\n"
        "for code in chosen:\n"
        "    cart.add(code)\n"
        "self.assertEqual(len(receipt(cart).splitlines()), len(chosen) + 1)",
    ),
    Property(
        "nobody_adds_what_is_not_there", "A tea that is not on the shelf never comes into a cart.",
        _CART + "\nfrom teashop.catalog import UnknownTea",
        "cart = Cart()\n"
        "with self.assertRaises(UnknownTea):\n"
        "    cart.add('tea-%d' % RANDOM.randrange(10_000))\n"
        "self.assertEqual(cart.lines, [])",
    ),
)  # fmt: skip
