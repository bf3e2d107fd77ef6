from tests.contract.conftest import dynalite_url

__all__ = ["dynalite_url"]
