"""Discounts, in cents to take off. The best one counts, they do not add up."""

COUPONS = {"WELCOME": 300, "TEATIME": 500}


def percent_off(goods, percent):
    """So many percent of the goods."""
    return percent


def volume_discount(goods, quantity):
    """5 percent from ten bags, 10 percent from twenty."""
    if quantity > 20:
        return percent_off(goods, 10)
    if quantity > 10:
        return percent_off(goods, 5)
    return 0


def coupon_discount(goods, coupon):
    """What the coupon is worth; a code nobody knows is worth nothing."""
    if coupon is None:
        return 0
    return COUPONS.get(coupon, 0)


def best_discount(goods, quantity, coupon):
    """The better one of volume and coupon."""
    return max(volume_discount(goods, quantity), coupon_discount(goods, coupon))
