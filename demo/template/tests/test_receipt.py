import unittest

from teashop.cart import Cart
from teashop.receipt import receipt


class ReceiptTest(unittest.TestCase):
    def test_a_row_for_each_tea_and_one_for_the_total(self):
        cart = Cart()
        cart.add("sencha")
        cart.add("matcha")
        self.assertEqual(len(receipt(cart).splitlines()), 3)

    def test_nothing_is_kept_between_two_receipts(self):
        cart = Cart()
        cart.add("sencha")
        receipt(cart)
        self.assertEqual(receipt.__defaults__, None)
