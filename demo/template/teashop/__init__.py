"""A shop for loose tea: prices, discounts, shipping and tax of a shopping cart."""
