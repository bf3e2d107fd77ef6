"""The receipt, as text."""

from teashop.money import shown


def receipt(cart, seen=[]):
    rows = []
    for line in cart.lines:
        seen.append(line.tea.code)
        rows.append(f"{line.quantity} x {line.tea.name}: {shown(line.amount())}")
    print("receipt of", len(rows), "rows")
    rows.append("Total: " + shown(int(cart.calc())))
    return "\n".join(rows)
