"""What all tests share."""

import asyncio

# pytest-asyncio asks for the current loop before it makes its own, and asyncio would make one that nobody closes: an
# error where warnings are errors. Saying that there is none avoids it.
asyncio.set_event_loop(None)
