"""The page's Gradio app with checks of every request: whatever it contains, the answer is a readable error message.

Neither the answer nor the log quotes the request, since it may contain a document, and no session keeps it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse
from gradio.components.api_component import Api

from app import text
from app.server.logs import log_quietly
from app.style.toasts import shown
from judgeq.errors import InputError

log = logging.getLogger(__name__)

HALF = re.compile("[\ud800-\udfff]")


MOST_WAITING_BYTES = 256_000_000
"""Of texts in events that wait for a thread; Gradio bounds their number."""


class Page(gr.Blocks):
    """Blocks whose requests fail with readable messages."""

    def queue(self, *args: Any, **kwargs: Any) -> Page:
        """As in `gr.Blocks`, with a bound of bytes, too."""
        super().queue(*args, **kwargs)
        line = self._queue
        push = line.push

        async def within_bounds(body: Any, *rest: Any, **more: Any) -> Any:
            waiting = (event for each in line.event_queue_per_concurrency_id.values() for event in each.queue)
            held = sum(_characters(event.data) for event in waiting)
            if held and held + _characters(body) > MOST_WAITING_BYTES:
                return False, text.TOO_MUCH, "queue_full"
            return await push(body, *rest, **more)

        line.push = within_bounds
        return self

    async def process_api(
        self, block_fn: Any, inputs: list[Any], state: Any = None, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """As in `gr.Blocks`; any other exception becomes a `gr.Error`, and what programs leave out has its default."""
        try:
            left_out = block_fn.inputs[len(inputs) :]
            if all(isinstance(each, Api) and each.value is not None for each in left_out):
                inputs = [*inputs, *(each.value for each in left_out)]
            if any(_is_elsewhere(value) for value in inputs):
                raise shown(InputError(text.FOREIGN_FILE))
            done = await super().process_api(block_fn, inputs, state, *args, **kwargs)
            return done | {"data": whole(done["data"])}
        except gr.Error as error:
            error.print_exception, error.message = False, whole(error.message)
            raise
        except Exception as error:  # noqa: BLE001 - logged
            log_quietly(log, "a request failed", error)
            raise shown(InputError(text.STRANGE_REQUEST)) from None
        finally:
            if state is not None:  # Gradio would keep the last value of every component, documents and all
                state.config_values.clear()


async def unknown_event(_: Request, __: Exception) -> JSONResponse:
    """The answer to a request for an event that does not exist, which Gradio looks up without asking."""
    return JSONResponse({"error": text.STRANGE_REQUEST}, status_code=404)


def whole(value: Any) -> Any:
    """A value of JSON without half characters, which could not be sent: U+FFFD in their place, as in browsers."""
    if isinstance(value, str):
        return value if value.isascii() else HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {whole(name): whole(each) for name, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list | tuple) else value


def _characters(body: Any) -> int:
    return sum(len(value) for value in body.data if isinstance(value, str))


def _is_elsewhere(value: Any) -> bool:
    """Whether a forged file would make Gradio fetch it from the web."""
    if isinstance(value, list):
        return any(isinstance(each, dict) and _is_elsewhere(each) for each in value)
    return isinstance(value, dict) and str(value.get("path", "")).lower().lstrip().startswith(("http:", "https:"))
