import unittest

from teashop.cart import Cart


class CartTest(unittest.TestCase):
    def test_an_empty_cart_counts_nothing(self):
        self.assertEqual(Cart().count(), 0)

    def test_the_quantity_counts(self):
        cart = Cart()
        cart.add("sencha", 3)
        self.assertEqual(cart.goods(), 3 * 480)

    def test_the_same_tea_twice_is_one_line(self):
        cart = Cart()
        cart.add("sencha")
        cart.add("sencha", 2)
        self.assertEqual([line.quantity for line in cart.lines], [3])

    def test_the_last_bag_takes_its_line_along(self):
        cart = Cart()
        cart.add("sencha")
        cart.remove("sencha")
        self.assertEqual(cart.lines, [])

    def test_a_quantity_is_one_or_more(self):
        with self.assertRaises(ValueError):
            Cart().add("sencha", 0)

    def test_an_empty_cart_costs_nothing(self):
        self.assertEqual(Cart().calc(), 0)

    def test_goods_and_shipping_and_tax(self):
        cart = Cart("DE")
        cart.add("sencha", 5)
        self.assertEqual(cart.calc(), 2400 + 390 + 168)
