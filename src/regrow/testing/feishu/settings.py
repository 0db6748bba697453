"""The numbers of the platform, as documented; a test changes them before or while the emulator runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    """Times are seconds; those of schedules and of streaming pass `speed` times as fast.

    Args:
        speed: factor for the retry schedule and the life of streaming.
        running: False stops the clock; only `advance` moves it.
        ack_timeout: real seconds for the acknowledgement of an event and the answer to a click.
        retries: waits before the second, third, ... attempt of an event.
        ping_interval, reconnect_count, reconnect_interval, reconnect_nonce: the `ClientConfig` handed out.
        connections: most connections per app.
        ticket_life: how long the address of a connection can be opened (real seconds, once).
        strict: close a connection with 1002 on a frame that lacks required fields.
        answer_pings: False: no pongs.
        pong_payload: None for the full `ClientConfig`; else these bytes.
        log_id_bits: log ids have their highest bit of so many set. The Node SDK reads numbers as doubles and keeps 53.
        shard_size: most bytes of a payload in one frame; 0: never cut.
        clicks_as_card_frames: clicks come in frames of type `card`.
        token_life, token_renewal: the same token is given while at least `token_renewal` of `token_life` are left.
        per_chat, per_message: sends per second to a chat, patches per second of a message (230020).
        per_card: operations per second on a CardKit entity.
        per_api_second, per_api_minute: calls of one API by one app (99991400).
        monthly_quota: counted calls of the tenant, None for no end (99991403).
        card_bytes, text_bytes: sizes of content in UTF-8 bytes.
        card_elements, card_depth, card_tables: limits of a card of schema 2.0.
        card_life: how long a card can be updated and clicked.
        edits: times a text or post can be edited.
        edit_life: how long a text or post can be edited.
        uuid_life: how long a uuid returns the first message.
        streaming_life: streaming switches itself off after it (timeline).
        click_token_life, click_token_uses: of the delayed update.
        file_bytes: most bytes of an upload.
        subscriptions_told: the app's own description says how it gets events and callbacks: the types of both SDKs have
            it, the public page does not.
        full_cards_in_history: cards come back from history as they were sent (the platform does not do that).
    """

    speed: float = 1.0
    running: bool = True
    ack_timeout: float = 3.0
    retries: tuple[float, ...] = (15.0, 300.0, 3600.0, 21600.0)
    ping_interval: int = 120
    reconnect_count: int = -1
    reconnect_interval: int = 120
    reconnect_nonce: int = 30
    connections: int = 50
    ticket_life: float = 60.0
    strict: bool = True
    answer_pings: bool = True
    pong_payload: bytes | None = None
    log_id_bits: int = 64
    shard_size: int = 0
    clicks_as_card_frames: bool = False
    token_life: int = 7200
    token_renewal: int = 1800
    per_chat: int = 5
    per_message: int = 5
    per_card: int = 10
    per_api_second: int = 50
    per_api_minute: int = 1000
    monthly_quota: int | None = None
    card_bytes: int = 30 * 1024
    text_bytes: int = 150 * 1024
    card_elements: int = 200
    card_depth: int = 5
    card_tables: int = 5
    card_life: float = 14 * 86400.0
    edits: int = 20
    edit_life: float = 86400.0
    uuid_life: float = 3600.0
    streaming_life: float = 600.0
    click_token_life: float = 1800.0
    click_token_uses: int = 2
    file_bytes: int = 30 * 1024 * 1024
    subscriptions_told: bool = True
    full_cards_in_history: bool = False

    @classmethod
    def quick(cls) -> Settings:
        """For tests: pings every second, reconnects without waiting, schedules fifty times as fast."""
        return cls(speed=50.0, ping_interval=1, reconnect_interval=1, reconnect_nonce=0)

    def client_config(self) -> dict[str, int]:
        """The `ClientConfig` of the endpoint and of every pong, always whole: both SDKs copy all four unchecked."""
        return {
            "ReconnectCount": self.reconnect_count,
            "ReconnectInterval": self.reconnect_interval,
            "ReconnectNonce": self.reconnect_nonce,
            "PingInterval": self.ping_interval,
        }
