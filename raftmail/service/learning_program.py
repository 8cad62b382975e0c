"""A program that learns from a message: `rspamc learn_spam`, `sa-learn --spam`."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class LearningProgram:
    """Reads the message from standard input, and says by exit status 0 that it has learnt it.

    `{user}` in a word of the command stands for the user's address, which is also in RAFTMAIL_USER.
    No shell reads the words. One that takes longer than `timeout_s` is killed, with all that it has
    begun."""

    command: tuple[str, ...]
    timeout_s: float

    async def learn(self, user: str, body: bytes) -> str:
        """What went wrong; "": nothing did."""
        words = [word.replace("{user}", user) for word in self.command]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "RAFTMAIL_USER": user}
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as e:
            return f"{words[0]} cannot be started: {e}"
        assert process.stdin is not None
        try:
            async with asyncio.timeout(self.timeout_s):
                with suppress(ConnectionError):  # it may end without having read all
                    process.stdin.write(body)
                    await process.stdin.drain()
                    process.stdin.close()
                status = await process.wait()
        except TimeoutError:
            return f"{words[0]} took longer than {self.timeout_s:g} s"
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        return "" if status == 0 else f"{words[0]} ended with status {status}"
