"""What the platform tells of an app's settings in its console: the bot, permissions, versions, subscriptions."""

from __future__ import annotations

from typing import Any

from regrow.testing.feishu.codes import ApiError
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App

_INSTALLED, _WAITING = 2, 0


class Console:
    """The calls about an app itself.

    Args:
        settings: whether subscriptions are told.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def bot(self, app: App) -> dict[str, Any]:
        """GET bot/v3/info.

        Raises:
            ApiError: 11205 without the bot ability.
        """
        if not app.bot:
            raise ApiError(11205, "app do not have bot")
        state = _INSTALLED if app.published else _WAITING
        return {"bot": {"activate_status": state, "app_name": app.name, "avatar_url": "", "open_id": app.open_id}}

    def scopes(self, app: App) -> dict[str, Any]:
        """GET application/v6/scopes: 1 is granted, 2 is not. Permissions nobody asked for are not there."""
        granted = [{"scope_name": name, "grant_status": 1} for name in sorted(app.scopes)]
        return {"scopes": granted + [{"scope_name": name, "grant_status": 2} for name in sorted(app.asked)]}

    def application(self, app: App, app_id: str) -> dict[str, Any]:
        """GET application/v6/applications/:app_id, of the app itself ("me").

        Raises:
            ApiError: 210508, of another app.
        """
        _is_own(app, app_id)
        told: dict[str, Any] = {
            "app_id": app.app_id,
            "app_name": app.name,
            "scene_type": 0,
            "status": 1 if app.published else 2,
            "online_version_id": app.version if app.published else "",
            "unaudit_version_id": "" if app.reviewed else f"{app.version}_next",
        }
        if self._settings.subscriptions_told:
            events = {"subscription_type": app.event_mode, "subscribed_events": sorted(app.events)}
            callbacks = {"callback_type": app.callback_mode, "subscribed_callbacks": sorted(app.callbacks)}
            told |= {"event": events, "callback_info": callbacks}
        return {"app": told}

    def version(self, app: App, app_id: str, version: str) -> dict[str, Any]:
        """GET application/v6/applications/:app_id/app_versions/:version_id.

        Raises:
            ApiError: 210508, of another app; 211002, no such version.
        """
        _is_own(app, app_id)
        if not app.published or version != app.version:
            raise ApiError(211002, "no such version_id")
        infos = [{"event_type": name, "event_name": name, "event_description": ""} for name in sorted(app.events)]
        ability = {"bot": {"card_request_url": ""}} if app.bot else {}
        told = {"app_id": app.app_id, "version_id": version, "status": 1, "ability": ability, "event_infos": infos}
        return {"app_version": told}


def _is_own(app: App, app_id: str) -> None:
    if app_id not in ("me", app.app_id):
        raise ApiError(210508, "insufficient permission level")
