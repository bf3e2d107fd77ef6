import unittest

from teashop.shipping import shipping_cost


class ShippingTest(unittest.TestCase):
    def test_a_small_parcel(self):
        self.assertEqual(shipping_cost(500, "DE", 1000), 390)

    def test_free_from_forty_euros(self):
        self.assertEqual(shipping_cost(500, "DE", 4000), 0)

    def test_nothing_to_send_costs_nothing(self):
        self.assertEqual(shipping_cost(0, "DE", 0), 0)

    def test_a_country_we_do_not_send_to(self):
        with self.assertRaises(ValueError) as raised:
            shipping_cost(500, "XX", 1000)
        self.assertIn("DE", str(raised.exception))
