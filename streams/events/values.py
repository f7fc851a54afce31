"""Values as requests have them."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from streams.events import cleaning

# What is asked is written down, as JSON and in Postgres: text that these cannot hold is refused at the door.
Text = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(cleaning.storable)]
Name = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(cleaning.storable)]
Json = Annotated[Any, AfterValidator(cleaning.plain_json)]
