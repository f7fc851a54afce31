"""What the store's settings refuse."""

import pytest
from pydantic import SecretStr, ValidationError

from store.settings import StoreSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("query", ["", "?sslmode=prefer"])
def test_a_token_of_iam_is_not_sent_in_the_clear(query: str) -> None:
    """It opens the database to whoever reads it."""
    with pytest.raises(ValidationError, match="needs \\?sslmode=verify-full"):
        StoreSettings(
            database_url=SecretStr(f"postgresql://mess@db/mess{query}"), database_iam_region="eu-central-1"
        )


def test_without_its_packages_a_login_by_iam_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs them."""
    monkeypatch.setattr("store.settings.find_spec", lambda _: None)
    url = SecretStr("postgresql://mess@db/mess?sslmode=require")
    with pytest.raises(ValidationError, match=r"pip install 'mess-ai\[aws\]'"):
        StoreSettings(database_url=url, database_iam_region="eu-central-1")
