import unittest

from teashop.money import cents, shown, whole


class MoneyTest(unittest.TestCase):
    def test_cents_keeps_the_last_cent(self):
        self.assertEqual(cents("4.35"), 435)
        self.assertEqual(cents("19.90"), 1990)

    def test_shown_has_two_digits(self):
        self.assertEqual(shown(405), "4.05 EUR")
        self.assertEqual(shown(480), "4.80 EUR")

    def test_half_a_cent_goes_up(self):
        self.assertEqual(whole("0.5"), 1)
        self.assertEqual(whole("2.5"), 3)
