"""A kitchen in full service: what the screenshots show and most tests start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .kitchen import ANNA, Json, Kitchen

REPLY = """Renamed it everywhere and kept the arithmetic in `Decimal`:

```python
def total_price(items: list[Item]) -> Decimal:
    \"\"\"Sum of price times quantity, rounded once at the end.\"\"\"
    total = sum((item.price * item.quantity for item in items), Decimal(0))
    return total.quantize(Decimal("0.01"))
```

- **14** call sites changed, 2 of them in tests
- the old name is gone, no alias left behind

The style guide that asks for it is [here](https://docs.example.com/style)."""


@dataclass
class Story:
    """The ids of what is on the table."""

    kitchen: Kitchen
    project: Json
    cart: Json
    miso: str
    nori: str
    koji: str


def serve(kitchen: Kitchen) -> Story:
    """Miso is done, Nori works and has talked, Koji asks a question, Toro is idle."""
    kitchen.started = datetime.now(UTC) - timedelta(minutes=7)
    project = kitchen.project("Corner Shop")
    cart = kitchen.feature(
        project["id"], "Shopping Cart", "Total, discounts and taxes, without a rounding error."
    )
    miso, nori, koji = (kitchen.run(cart, name)["id"] for name in ("miso", "nori", "koji"))
    kitchen.status(miso, "working", "thinking")
    kitchen.log(miso, "INFO reading cart/models.py", "INFO three modules, one cycle")
    kitchen.say(miso, "The plan is in `docs/plan.md`: prices stay `Decimal` end to end.")
    kitchen.status(miso, "completed")

    kitchen.status(nori, "starting")
    kitchen.status(nori, "working", "coding")
    kitchen.log(
        nori,
        "$ pytest -q",
        "\x1b[31mF\x1b[0m\x1b[32m......\x1b[0m                        [100%]",
        "FAILED tests/test_cart.py::test_total - AssertionError",
    )
    kitchen.step(nori, 1, "Read cart/models.py", ok=True, ms=300)
    kitchen.step(
        nori,
        2,
        "Run pytest -q",
        ok=False,
        ms=4100,
        summary="FAILED tests/test_cart.py::test_total\nassert 0.30000000000000004 == 0.3",
    )
    kitchen.say(
        nori, "One test fails: `test_total` compares floats. I am moving prices to `Decimal`."
    )
    wish = kitchen.emit(
        nori,
        "message",
        {
            "text": "Good. Please call it total_price, not sum_items.",
            "mode": "steer",
            "reply_to": None,
            "anchor": None,
            "edit_of": None,
            "version": 1,
        },
        ANNA,
    )
    kitchen.receipt(nori, wish["id"], "stored")
    kitchen.receipt(nori, wish["id"], "leased", attempt=1)
    kitchen.step(nori, 3, "Edit cart/models.py", ok=True, ms=600)
    kitchen.receipt(nori, wish["id"], "in_context", step=4)
    kitchen.step(nori, 4, "Rename across 14 files", ok=True, ms=1200)
    kitchen.say(nori, REPLY)
    kitchen.log(
        nori,
        "$ pytest -q",
        "\x1b[32m.......\x1b[0m                        [100%]",
        "\x1b[1;32m7 passed\x1b[0m in 0.21s",
    )
    later = kitchen.emit(
        nori,
        "message",
        {
            "text": "When that is done, add a test for an empty cart.",
            "mode": "queue",
            "reply_to": None,
            "anchor": None,
            "edit_of": None,
            "version": 1,
        },
        ANNA,
    )
    kitchen.receipt(nori, later["id"], "stored")
    kitchen.step(nori, 5, "Run pytest -q")

    kitchen.status(koji, "working", "reviewing")
    kitchen.log(
        koji, "INFO review of 3 files", "WARNING rounding differs between cart.py and invoice.py"
    )
    kitchen.log(koji, "cannot decide alone", stream="stderr")
    kitchen.say(koji, "The invoice rounds each line, the cart rounds once.")
    kitchen.ask(
        koji, "Which rounding should both use?", "Round once at the end", "Round every line"
    )
    kitchen.status(koji, "waiting")
    return Story(kitchen, project, cart, miso, nori, koji)
