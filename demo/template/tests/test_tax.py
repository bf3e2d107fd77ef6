import unittest

from teashop.cart import Cart
from teashop.tax import tax


class TaxTest(unittest.TestCase):
    def test_tax_is_whole_cents(self):
        cart = Cart("DE")
        cart.add("rooibos")
        self.assertIsInstance(tax(cart.lines, "DE"), int)

    def test_no_goods_no_tax(self):
        self.assertEqual(tax([], "DE"), 0)
