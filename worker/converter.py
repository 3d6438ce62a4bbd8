"""How messages become payloads: JSON by pydantic, as the SDK does it, with what it has learned kept."""

from __future__ import annotations

import dataclasses

from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter, pydantic_data_converter
from temporalio.converter import CompositePayloadConverter, DefaultPayloadConverter, JSONPlainPayloadConverter

# Making the reader of a message type takes about 0.7 ms, and the SDK makes a converter for each workflow: this one is
# for all of them.
_JSON = PydanticJSONPlainPayloadConverter()


class MessageConverter(CompositePayloadConverter):
    """The SDK's converter for pydantic with what it has learned of the message types kept for the process's life."""

    def __init__(self) -> None:
        """As the SDK calls it, once a workflow."""
        encodings = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(_JSON if isinstance(one, JSONPlainPayloadConverter) else one for one in encodings))


# Writes and reads the same bytes as the SDK's, so that clients need not know of it.
DATA_CONVERTER = dataclasses.replace(pydantic_data_converter, payload_converter_class=MessageConverter)
