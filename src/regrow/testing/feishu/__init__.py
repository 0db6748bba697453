"""A Feishu platform on the loopback: `async with FeishuEmulator() as feishu:`."""

from __future__ import annotations

from regrow.testing.feishu.chats import Chat, Message
from regrow.testing.feishu.clicks import Click
from regrow.testing.feishu.emulator import FeishuEmulator
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App
from regrow.testing.feishu.users import User

__all__ = ["App", "Chat", "Click", "FeishuEmulator", "Message", "Settings", "User"]
