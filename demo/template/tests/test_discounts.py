import unittest

from teashop.discounts import best_discount, coupon_discount, percent_off, volume_discount


class DiscountTest(unittest.TestCase):
    def test_percent_of_the_goods(self):
        self.assertEqual(percent_off(2000, 10), 200)

    def test_volume_discount_begins_at_ten(self):
        self.assertGreater(volume_discount(10_000, 10), 0)
        self.assertEqual(volume_discount(10_000, 9), 0)

    def test_a_coupon_in_small_letters(self):
        self.assertEqual(coupon_discount(2000, "welcome"), 300)

    def test_a_coupon_is_never_worth_more_than_the_goods(self):
        self.assertEqual(coupon_discount(200, "TEATIME"), 200)

    def test_the_better_one_counts(self):
        self.assertEqual(best_discount(1000, 1, "WELCOME"), 300)
