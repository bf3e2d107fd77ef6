import unittest

from teashop.catalog import UnknownTea, find


class CatalogTest(unittest.TestCase):
    def test_finds_a_tea(self):
        self.assertEqual(find("sencha").name, "Sencha")

    def test_unknown_tea_names_those_there_are(self):
        with self.assertRaises(UnknownTea) as raised:
            find("coffee")
        self.assertIn("sencha", str(raised.exception))
